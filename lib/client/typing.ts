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
  later?: () => void
  idle?: () => void
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
    one.later?.()
    const wait = one.sentAt + REPEAT - clock.now()
    if (wait <= 0) {
      one.sentAt = clock.now()
      one.shown = true
      send({ conversationId, isTyping: true, ...one.audience })
    } else if (!one.shown) {
      // A new start after a stop, too early: it is said when its time comes, if it is still true.
      one.later = clock.after(wait, () => { start(conversationId, one) })
    }
  }
  const quiet = (one: Conversation): void => {
    one.shown = false
    one.later?.()
    one.idle?.()
  }
  const stop = (conversationId: string, one: Conversation): void => {
    if (one.shown) send({ conversationId, isTyping: false, ...one.audience })
    quiet(one)
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
      one.idle?.()
      one.idle = clock.after(idleAfter, () => { stop(conversationId, one) })
      start(conversationId, one)
    },
    sent: (conversationId) => {
      const one = all.get(conversationId)
      if (one !== undefined) quiet(one)
    },
    clear: () => {
      all.forEach(quiet)
      all.clear()
    }
  }
}
