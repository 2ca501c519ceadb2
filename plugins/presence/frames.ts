import type { FrameRouter } from '../../lib/frame-router.js'
import type { PresenceRules } from './presence.js'
import { PresenceAck, PresenceChanged, PresenceData, UserEdge } from './schemas.js'

export function frames (router: FrameRouter, presence: PresenceRules): void {
  router.on({
    event: 'user:presence',
    data: PresenceData,
    ack: PresenceAck,
    handle: async (context, data) => {
      await presence.count(context)
      return { ack: await presence.update(context, data, 'web') }
    }
  })
  router.describe(
    { event: 'user:presence', direction: 'server', data: PresenceChanged },
    { event: 'user:online', direction: 'server', data: UserEdge },
    { event: 'user:offline', direction: 'server', data: UserEdge })
}
