import type { ClientClock } from './clock.js'
import type { Audience } from './types.js'

/** Milliseconds between two starts of one conversation: far below the 30 s after which the server ends it by itself. */
const REPEAT = 3000

type Sign = { conversationId: string, isTyping: boolean } & Audience

interface Conversation {
  audience: Audience
  /** When the last start was sent. */
  sentAt: number
  /** The others see it. */
  shown: boolean
  later: unknown
  idle: unknown
}

/** Signs of typing, as few as say it: keystrokes in, at most one start every 3 s out, and one stop. */
export class Typing {
  readonly #conversations = new Map<string, Conversation>()
  readonly #clock: ClientClock
  readonly #idleAfter: number
  readonly #send: (data: Sign) => void

  constructor (clock: ClientClock, idleAfter: number, send: (data: Sign) => void) {
    this.#clock = clock
    this.#idleAfter = idleAfter
    this.#send = send
  }

  record (conversationId: string, isTyping: boolean, audience: Audience | undefined): void {
    const known = this.#conversations.get(conversationId)
    if (!isTyping) {
      if (known !== undefined) this.#stop(conversationId, known)
      return
    }
    const conversation = known ?? { audience: {}, sentAt: -Infinity, shown: false, later: undefined, idle: undefined }
    this.#conversations.set(conversationId, conversation)
    if (audience !== undefined) conversation.audience = audience
    this.#clock.clearTimeout(conversation.idle)
    conversation.idle = this.#clock.setTimeout(() => { this.#stop(conversationId, conversation) }, this.#idleAfter)
    this.#start(conversationId, conversation)
  }

  /** The message went out: the server tells the stop by itself. */
  sent (conversationId: string): void {
    const conversation = this.#conversations.get(conversationId)
    if (conversation !== undefined) this.#quiet(conversationId, conversation)
  }

  /** The connection is gone, and with it what it typed. */
  clear (): void {
    for (const [id, conversation] of this.#conversations) {
      this.#quiet(id, conversation)
      this.#clock.clearTimeout(conversation.later)
      this.#conversations.delete(id)
    }
  }

  #start (conversationId: string, conversation: Conversation): void {
    this.#clock.clearTimeout(conversation.later)
    const wait = conversation.sentAt + REPEAT - this.#clock.now()
    if (wait > 0) {
      // A new start after a stop, too early: it is said when its time comes, if it is still true.
      if (!conversation.shown) conversation.later = this.#clock.setTimeout(() => { this.#start(conversationId, conversation) }, wait)
      return
    }
    conversation.sentAt = this.#clock.now()
    conversation.shown = true
    this.#send({ conversationId, isTyping: true, ...conversation.audience })
  }

  #stop (conversationId: string, conversation: Conversation): void {
    const { shown, audience } = conversation
    this.#quiet(conversationId, conversation)
    if (shown) this.#send({ conversationId, isTyping: false, ...audience })
  }

  #quiet (conversationId: string, conversation: Conversation): void {
    conversation.shown = false
    this.#clock.clearTimeout(conversation.later)
    this.#clock.clearTimeout(conversation.idle)
    // Kept until its next start may go out, then forgotten.
    conversation.later = this.#clock.setTimeout(() => { this.#conversations.delete(conversationId) },
      Math.max(0, conversation.sentAt + REPEAT - this.#clock.now()))
  }
}
