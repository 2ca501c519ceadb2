import type { ClientClock } from './clock.js'
import { REPEAT } from './limits.js'
import type { Audience } from './types.js'

interface Conversation {
  audience: Audience
  /** Time of the last start. */
  sentAt: number
  /** Cancels the timeout of the stop; absent while not typing. */
  stop?: () => void
}

/** Reduces keystrokes to few typing updates: at most one start every 3 s, and one stop. */
export interface Typing {
  record (conversationId: string, isTyping: boolean, audience?: Audience): void
  /** A message was sent: the server sends the stop itself. */
  sent (conversationId: string | undefined): void
  /** The connection ended, and its typing with it. */
  clear (): void
}

export function createTyping (clock: ClientClock, idleAfter: number, send: (sign: { conversationId: string, isTyping: boolean } & Audience) => void): Typing {
  const all = new Map<string | undefined, Conversation>()

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
