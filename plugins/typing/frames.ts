import type { FrameRouter } from '../../lib/frame-router.js'
import { TypingAck, TypingChanged, TypingData } from './schemas.js'
import type { TypingRules } from './typing.js'

export function frames (router: FrameRouter, typing: TypingRules): void {
  router.on({
    event: 'user:typing',
    data: TypingData,
    ack: TypingAck,
    handle: async (context, data) => {
      await typing.count(context)
      return { ack: await typing.record(context, data) }
    }
  })
  router.describe({ event: 'user:typing', direction: 'server', data: TypingChanged })
}
