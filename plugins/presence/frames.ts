import type { FrameRouter, UserRate } from '../../lib/frame-router.js'
import type { PresenceRules } from './presence.js'
import { clientEvents, serverEvents } from './schemas.js'
import type { Watching } from './watching.js'

export function frames (router: FrameRouter, presence: PresenceRules, watching: Watching, rate: UserRate): void {
  router.on({
    event: 'user:presence',
    ...clientEvents['user:presence'],
    rate,
    handle: async (context, data) => ({ ack: await presence.update(context, data) })
  })
  router.on({
    event: 'presence:watch',
    ...clientEvents['presence:watch'],
    handle: async (context, { userIds }) => await watching.watch(context, userIds)
  })
  router.on({
    event: 'presence:unwatch',
    ...clientEvents['presence:unwatch'],
    handle: (context, { userIds }) => watching.unwatch(context, userIds)
  })
  router.describe({ server: serverEvents })
}
