import type { FrameRouter } from '../../lib/frame-router.js'
import type { Messages } from './messages.js'
import { clientEvents, serverEvents } from './schemas.js'
import type { Subscriptions } from './subscriptions.js'

export function frames (router: FrameRouter, subscriptions: Subscriptions, messages: Messages): void {
  router.on({
    event: 'subscribe',
    ...clientEvents.subscribe,
    ahead: (identity, { channel }) => { subscriptions.foresee(identity, channel) },
    handle: async (context, data) => await subscriptions.subscribe(context, data)
  })
  router.on({
    event: 'unsubscribe',
    ...clientEvents.unsubscribe,
    handle: async (context, { channel }) => subscriptions.unsubscribe(context, channel)
  })
  router.on({
    event: 'message:direct',
    ...clientEvents['message:direct'],
    handle: async (context, data) => ({ ack: await messages.direct(context, data) })
  })
  router.on({
    event: 'message:group',
    ...clientEvents['message:group'],
    handle: async (context, data) => ({ ack: await messages.group(context, data) })
  })
  router.on({
    event: 'broadcast:message',
    ...clientEvents['broadcast:message'],
    handle: async (context, data) => ({ ack: await messages.broadcast(context, data) })
  })
  router.on({
    event: 'notification:send',
    ...clientEvents['notification:send'],
    handle: async (context, data) => ({ ack: await messages.notify(context, data) })
  })
  router.on({
    event: 'message:delivered',
    ...clientEvents['message:delivered'],
    handle: async (context, { messageId }) => ({ ack: { later: messages.delivered(context, messageId) } })
  })
  router.describe({ server: serverEvents })
}
