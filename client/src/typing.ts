import type { ClientClock } from './clock.js'
import type { Audience } from './types.js'

/** Milliseconds between two starts of one conversation: far below the 30 s after which the server ends it by itself. */
const REPEAT = 3000

interface Conversation {
  audience: Audience
  /** When the last start was sent. */
  sentAt: number
  /** Ends the wait for its end; absent: not typing. */
  stop?: () => void
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

  const typing: Typing = {
    record: (conversationId, isTyping, audience) => {
      const one = all.get(conversationId) ?? { audience: {}, sentAt: -Infinity }
      one.audience = audience ?? one.audience
      typing.sent(conversationId)
      if (isTyping) {
        all.set(conversationId, one)
        one.stop = clock.after(idleAfter, () => { typing.record(conversationId, false) })
        if (clock.now() - one.sentAt < REPEAT) return
        one.sentAt = clock.now()
      } else if (!one.stop) return
      send({ conversationId, isTyping, ...one.audience })
    },
    sent: (conversationId) => {
      all.get(conversationId)?.stop?.()
      all.delete(conversationId)
    },
    clear: () => { for (const id of [...all.keys()]) typing.sent(id) }
  }
  return typing
}
