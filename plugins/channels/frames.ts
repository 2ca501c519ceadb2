import type { FrameRouter } from '../../lib/frame-router.js'
import type { Messages } from './messages.js'
import * as schema from './schemas.js'
import type { Subscriptions } from './subscriptions.js'

export function frames (router: FrameRouter, subscriptions: Subscriptions, messages: Messages): void {
  router.on({
    event: 'subscribe',
    data: schema.SubscribeData,
    ack: schema.Subscribed,
    ahead: (identity, { channel }) => { subscriptions.foresee(identity, channel) },
    handle: async (context, data) => await subscriptions.subscribe(context, data)
  })
  router.on({
    event: 'unsubscribe',
    data: schema.ChannelData,
    ack: schema.ChannelData,
    handle: async (context, { channel }) => subscriptions.unsubscribe(context, channel)
  })
  router.on({
    event: 'message:direct',
    data: schema.DirectData,
    ack: schema.Accepted,
    handle: async (context, data) => ({ ack: await messages.direct(context, data) })
  })
  router.on({
    event: 'message:group',
    data: schema.GroupData,
    ack: schema.Accepted,
    handle: async (context, data) => ({ ack: await messages.group(context, data) })
  })
  router.on({
    event: 'broadcast:message',
    data: schema.BroadcastData,
    ack: schema.Accepted,
    handle: async (context, data) => ({ ack: await messages.broadcast(context, data) })
  })
  router.on({
    event: 'notification:send',
    data: schema.NotificationData,
    ack: schema.NotificationsAccepted,
    handle: async (context, data) => ({ ack: await messages.notify(context, data) })
  })
  router.on({
    event: 'message:delivered',
    data: schema.DeliveredData,
    ack: schema.DeliveredAck,
    handle: async (context, { messageId }) => ({ ack: { later: messages.delivered(context, messageId) } })
  })
  router.describe(
    { event: 'subscribed', direction: 'server', data: schema.Subscribed },
    { event: 'unsubscribed', direction: 'server', data: schema.ChannelData },
    { event: 'message:direct', direction: 'server', data: schema.DirectMessage },
    { event: 'message:group', direction: 'server', data: schema.GroupMessage },
    { event: 'broadcast:message', direction: 'server', data: schema.BroadcastMessage },
    { event: 'notification:received', direction: 'server', data: schema.Notification },
    { event: 'message:delivered', direction: 'server', data: schema.Delivered })
}
