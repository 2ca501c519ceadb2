import type { FrameRouter, UserRate } from '../../lib/frame-router.js'
import { clientEvents, serverEvents } from './schemas.js'
import type { TypingRules } from './typing.js'

export function frames (router: FrameRouter, typing: TypingRules, rate: UserRate): void {
  router.on({
    event: 'user:typing',
    ...clientEvents['user:typing'],
    rate,
    handle: async (context, data) => ({ ack: await typing.record(context, data) })
  })
  router.describe({ server: serverEvents })
}
