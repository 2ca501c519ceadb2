import { resolveAlias } from '../../lib/channel-names.js'
import type { Receipt } from '../../lib/event-log/index.js'
import type { Internals } from '../../lib/internals.js'
import { callerOf } from '../../lib/plugin-kit/rest-scope.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import type { Messages } from './messages.js'
import { rest } from './schemas.js'
import type { Subscriptions } from './subscriptions.js'

const accepted = ({ messageId, timestamp }: Receipt) => ({ data: { message_id: messageId, timestamp } })

/** The optional `dedupe_id` of a body under its name in frames. */
const dedupe = ({ dedupe_id: dedupeId }: { dedupe_id?: string }) => dedupeId === undefined ? {} : { dedupeId }

const given = (data: Record<string, unknown> | undefined) => data === undefined ? {} : { data }

export function routes (scope: RestScope, internals: Internals, subscriptions: Subscriptions, messages: Messages): void {
  subscriptionRoutes(scope, subscriptions)
  messageRoutes(scope, messages)

  scope.get('/events', { schema: rest['GET /events'] }, async (request) => {
    const caller = callerOf(request)
    const { identity } = caller
    const { since = 0, limit = 100, epoch } = request.query
    const channel = resolveAlias(request.query.channel, identity.userId)
    await internals.access.require(caller, { action: 'subscribe', channel })
    const { events, position, recovered, more } = await internals.eventLog.read(identity.tenantId, channel, since, limit, epoch)
    const data = events.map(({ id, type, payload }) =>
      ({ event: type, data: { messageId: id, ...JSON.parse(payload) as Record<string, unknown> } }))
    return { data, position, recovered, more, epoch: internals.eventLog.epoch.current }
  })
}

function subscriptionRoutes (scope: RestScope, subscriptions: Subscriptions): void {
  scope.post('/subscribe', { schema: rest['POST /subscribe'] }, async (request) => {
    const { connection_id, channel } = request.body
    return {
      message: 'Subscribed to channel',
      channel: await subscriptions.subscribeConnection(callerOf(request), connection_id, channel)
    }
  })

  scope.post('/unsubscribe', { schema: rest['POST /unsubscribe'] }, async (request) => {
    const { connection_id, channel } = request.body
    return {
      message: 'Unsubscribed from channel',
      channel: await subscriptions.unsubscribeConnection(callerOf(request).identity, connection_id, channel)
    }
  })
}

function messageRoutes (scope: RestScope, messages: Messages): void {
  scope.post('/messages/direct', { schema: rest['POST /messages/direct'] }, async (request, reply) => {
    const { recipient_id: recipientId, message, conversation_id: conversationId, data } = request.body
    const { value } = await messages.direct(callerOf(request), { recipientId, message, conversationId, ...given(data), ...dedupe(request.body) })
    reply.code(202)
    return accepted(await value)
  })

  scope.post('/messages/group', { schema: rest['POST /messages/group'] }, async (request, reply) => {
    const { channel, message, conversation_id: conversationId, data } = request.body
    const { value } = await messages.group(callerOf(request), { channel, message, conversationId, ...given(data), ...dedupe(request.body) })
    reply.code(202)
    return accepted(await value)
  })

  scope.post('/messages/delivered', { schema: rest['POST /messages/delivered'] }, async (request) =>
    ({ data: { delivered: await messages.deliveredAll(callerOf(request), request.body.message_ids) } }))

  scope.post('/broadcast', { schema: rest['POST /broadcast'] }, async (request, reply) => {
    const { message, message_type: messageType = 'info' } = request.body
    const { value } = await messages.broadcast(callerOf(request), { message, messageType, ...dedupe(request.body) })
    reply.code(202)
    return accepted(await value)
  })

  scope.post('/notifications', { schema: rest['POST /notifications'] }, async (request, reply) => {
    const { recipient_ids: recipientIds, title, body, icon = null, tag = null } = request.body
    const { value } = await messages.notify(callerOf(request), { recipientIds, title, body, icon, tag, ...dedupe(request.body) })
    const { messageIds, timestamp } = await value
    reply.code(202)
    return { data: { message_ids: messageIds, timestamp } }
  })
}
