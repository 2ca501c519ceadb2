import type { FrameRouter, UserRate } from '../../lib/frame-router.js'
import type { PresenceRules } from './presence.js'
import { clientEvents, serverEvents } from './schemas.js'

export function frames (router: FrameRouter, presence: PresenceRules, rate: UserRate): void {
  router.on({
    event: 'user:presence',
    ...clientEvents['user:presence'],
    rate,
    handle: async (context, data) => ({ ack: await presence.update(context, data) })
  })
  router.describe({ server: serverEvents })
}
