import type { ClientClock } from './clock.js'
import type { Audience } from './types.js'

/** Milliseconds between two starts of one conversation: far below the 30 s after which the server ends it by itself. */
const REPEAT = 3000

interface Conversation {
  audience: Audience
  /** When the last start was sent. */
  sentAt: number
  /** The others see it. */
  shown: boolean
  later?: unknown
  idle?: unknown
}

/** Signs of typing, as few as say it: keystrokes in, at most one start every 3 s out, and one stop. */
export interface Typing {
  record (conversationId: string, isTyping: boolean, audience?: Audience): void
  /** The message went out: the server tells the stop by itself. */
  sent (conversationId: string): void
  /** The connection is gone, and with it what it typed. */
  clear (): void
}

export function createTyping (clock: ClientClock, idleAfter: number, send: (sign: { conversationId: string, isTyping: boolean } & Audience) => void): Typing {
  const all = new Map<string, Conversation>()

  const start = (conversationId: string, one: Conversation): void => {
    clock.clearTimeout(one.later)
    const wait = one.sentAt + REPEAT - clock.now()
    if (wait <= 0) {
      one.sentAt = clock.now()
      one.shown = true
      send({ conversationId, isTyping: true, ...one.audience })
    } else if (!one.shown) {
      // A new start after a stop, too early: it is said when its time comes, if it is still true.
      one.later = clock.setTimeout(() => { start(conversationId, one) }, wait)
    }
  }
  const quiet = (conversationId: string, one: Conversation): void => {
    one.shown = false
    clock.clearTimeout(one.later)
    clock.clearTimeout(one.idle)
    // Kept until its next start may go out, then forgotten.
    one.later = clock.setTimeout(() => { all.delete(conversationId) }, one.sentAt + REPEAT - clock.now())
  }
  const stop = (conversationId: string, one: Conversation): void => {
    if (one.shown) send({ conversationId, isTyping: false, ...one.audience })
    quiet(conversationId, one)
  }

  return {
    record: (conversationId, isTyping, audience) => {
      const one = all.get(conversationId) ?? { audience: {}, sentAt: -Infinity, shown: false }
      if (!isTyping) {
        stop(conversationId, one)
        return
      }
      all.set(conversationId, one)
      one.audience = audience ?? one.audience
      clock.clearTimeout(one.idle)
      one.idle = clock.setTimeout(() => { stop(conversationId, one) }, idleAfter)
      start(conversationId, one)
    },
    sent: (conversationId) => {
      const one = all.get(conversationId)
      if (one !== undefined) quiet(conversationId, one)
    },
    clear: () => {
      for (const [id, one] of all) {
        quiet(id, one)
        clock.clearTimeout(one.later)
      }
      all.clear()
    }
  }
}
