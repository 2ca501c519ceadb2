import { thenMaybe } from '../../lib/async/maybe-promise.js'
import { Deferred, type FrameRouter } from '../../lib/frame-router.js'
import type { Messages } from './messages.js'
import { clientEvents, serverEvents } from './schemas.js'
import type { Subscriptions } from './subscriptions.js'

export function frames (router: FrameRouter, subscriptions: Subscriptions, messages: Messages): void {
  router.on({
    event: 'subscribe',
    ...clientEvents.subscribe,
    prefetch: (caller, { channel }) => channel === undefined ? undefined : subscriptions.prefetch(caller, channel),
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
    handle: (context, data) => thenMaybe(messages.direct(context, data), (ack) => ({ ack }))
  })
  router.on({
    event: 'message:group',
    ...clientEvents['message:group'],
    handle: (context, data) => thenMaybe(messages.group(context, data), (ack) => ({ ack }))
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
    handle: (context, { messageId }) => ({ ack: new Deferred(messages.delivered(context, messageId)) })
  })
  router.describe({ server: serverEvents })
}
