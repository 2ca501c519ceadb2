import type { FrameRouter } from '../../lib/frame-router.js'
import type { PresenceRules } from './presence.js'
import { clientEvents, serverEvents } from './schemas.js'

export function frames (router: FrameRouter, presence: PresenceRules): void {
  router.on({
    event: 'user:presence',
    ...clientEvents['user:presence'],
    handle: async (context, data) => {
      await presence.count(context)
      return { ack: await presence.update(context, data, 'web') }
    }
  })
  router.describe({ server: serverEvents })
}
