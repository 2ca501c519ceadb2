import type { FrameRouter } from '../../lib/frame-router.js'
import { clientEvents, serverEvents } from './schemas.js'
import type { TypingRules } from './typing.js'

export function frames (router: FrameRouter, typing: TypingRules): void {
  router.on({
    event: 'user:typing',
    ...clientEvents['user:typing'],
    handle: async (context, data) => {
      await typing.count(context)
      return { ack: await typing.record(context, data) }
    }
  })
  router.describe({ server: serverEvents })
}
