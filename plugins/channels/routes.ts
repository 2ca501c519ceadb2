import { resolveAlias } from '../../lib/channels.js'
import type { Realtime } from '../../lib/core.js'
import type { Receipt } from '../../lib/event-log/index.js'
import { callerOf, type RestScope } from '../../lib/rest.js'
import { ErrorResponse, errorResponses } from '../../lib/schemas.js'
import type { Messages } from './messages.js'
import * as schema from './schemas.js'
import type { Subscriptions } from './subscriptions.js'

const accepted = ({ messageId, timestamp }: Receipt) => ({ data: { message_id: messageId, timestamp } })

/** An optional key of the body under its name in frames, left out when it is absent. */
const dedupe = ({ dedupe_id: dedupeId }: { dedupe_id?: string }) => dedupeId === undefined ? {} : { dedupeId }

export function routes (scope: RestScope, realtime: Realtime, subscriptions: Subscriptions, messages: Messages): void {
  subscriptionRoutes(scope, subscriptions)
  messageRoutes(scope, messages)

  scope.get('/events', {
    schema: {
      tags: ['channels'],
      summary: 'The durable events of a channel, oldest first: the same cursor as subscribe with since',
      querystring: schema.EventsQuery,
      response: { ...errorResponses, 200: schema.EventsAnswer }
    }
  }, async (request) => {
    const { identity } = callerOf(request)
    const channel = resolveAlias(request.query.channel, identity.userId)
    await realtime.access.require({ identity, action: 'subscribe', channel })
    const { events, position, recovered, more } = await realtime.eventLog.read(identity.tenantId, channel, request.query.since, request.query.limit)
    const data = events.map(({ id, type, payload }) =>
      ({ event: type, data: { messageId: id, ...JSON.parse(payload) as Record<string, unknown> } }))
    return { data, position, recovered, more }
  })
}

function subscriptionRoutes (scope: RestScope, subscriptions: Subscriptions): void {
  const response = { ...errorResponses, 200: schema.SubscribeAnswer, 404: ErrorResponse, 409: ErrorResponse }
  const tags = ['channels']

  scope.post('/subscribe', {
    schema: { tags, summary: 'Subscribe a connection, on whichever node it is', body: schema.SubscribeBody, response }
  }, async (request) => {
    const { connection_id, channel } = request.body
    return {
      message: 'Subscribed to channel',
      channel: await subscriptions.subscribeConnection(callerOf(request).identity, connection_id, channel)
    }
  })

  scope.post('/unsubscribe', {
    schema: { tags, summary: 'Unsubscribe a connection, on whichever node it is', body: schema.SubscribeBody, response }
  }, async (request) => {
    const { connection_id, channel } = request.body
    return {
      message: 'Unsubscribed from channel',
      channel: await subscriptions.unsubscribeConnection(callerOf(request).identity, connection_id, channel)
    }
  })
}

function messageRoutes (scope: RestScope, messages: Messages): void {
  const response = { ...errorResponses, 202: schema.AcceptedAnswer }
  const tags = ['messages']

  scope.post('/messages/direct', {
    schema: { tags, summary: 'Send a direct message', body: schema.DirectBody, response }
  }, async (request, reply) => {
    const { recipient_id: recipientId, message, conversation_id: conversationId } = request.body
    const { later } = await messages.direct(callerOf(request), { recipientId, message, conversationId, ...dedupe(request.body) })
    return await reply.code(202).send(accepted(await later))
  })

  scope.post('/messages/group', {
    schema: { tags, summary: 'Send a message to a channel', body: schema.GroupBody, response }
  }, async (request, reply) => {
    const { channel, message, conversation_id: conversationId } = request.body
    const { later } = await messages.group(callerOf(request), { channel, message, conversationId, ...dedupe(request.body) })
    return await reply.code(202).send(accepted(await later))
  })

  scope.post('/broadcast', {
    schema: { tags, summary: 'Tell everyone in the tenant', body: schema.BroadcastBody, response }
  }, async (request, reply) => {
    const { message, message_type: messageType = 'info' } = request.body
    const { later } = await messages.broadcast(callerOf(request), { message, messageType, ...dedupe(request.body) })
    return await reply.code(202).send(accepted(await later))
  })

  scope.post('/notifications', {
    schema: {
      tags,
      summary: 'Notify up to 500 users, one event for each',
      body: schema.NotificationsBody,
      response: { ...errorResponses, 202: schema.NotificationsAnswer }
    }
  }, async (request, reply) => {
    const { recipient_ids: recipientIds, title, body, icon = null, tag = null } = request.body
    const { later } = await messages.notify(callerOf(request), { recipientIds, title, body, icon, tag, ...dedupe(request.body) })
    const { messageIds, timestamp } = await later
    return await reply.code(202).send({ data: { message_ids: messageIds, timestamp } })
  })
}
