import { resolveAlias } from '../../lib/channel-names.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Receipt } from '../../lib/event-log/index.js'
import type { Internals } from '../../lib/internals.js'
import { callerOf } from '../../lib/plugin-kit/rest-scope.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import { requireChannel } from '../../lib/wire/host-arguments.js'
import type { Members } from './members.js'
import type { Messages } from './messages.js'
import { rest } from './schemas.js'
import type { Subscriptions } from './subscriptions.js'

/** Channels of one request. */
const MAX_NAMES = 100

const accepted = ({ messageId, timestamp }: Receipt) => ({ data: { message_id: messageId, timestamp } })

/** The optional `dedupe_id` of a body under its name in frames. */
const dedupe = ({ dedupe_id: dedupeId }: { dedupe_id?: string }) => dedupeId === undefined ? {} : { dedupeId }

const given = (data: Record<string, unknown> | undefined) => data === undefined ? {} : { data }

export function routes (scope: RestScope, internals: Internals, subscriptions: Subscriptions, messages: Messages, members: Members): void {
  subscriptionRoutes(scope, subscriptions)
  messageRoutes(scope, messages)
  memberRoutes(scope, internals, members)

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

function memberRoutes (scope: RestScope, { access, ids }: Internals, members: Members): void {
  scope.get('/channels/:channel/members', { schema: rest['GET /channels/:channel/members'] }, async (request) => {
    const caller = callerOf(request)
    const { tenantId, userId } = caller.identity
    const channel = resolveAlias(request.params.channel, userId)
    await access.require(caller, { action: 'subscribe', channel })
    if (members.modeOf(channel) === false) throw new RealtimeError('RT_NOT_FOUND', 'This channel has no members')
    const { members: found, total, version, next } = await members.page(tenantId, channel, request.query)
    return { data: found.map(({ userId: id, name, status }) => ({ user_id: id, name, status })), total, version, next_cursor: next }
  })

  scope.get('/channels', { schema: rest['GET /channels'] }, async (request) => {
    const caller = callerOf(request)
    const { tenantId, userId } = caller.identity
    const names = request.query.names.split(',')
    if (names.length > MAX_NAMES) throw new RealtimeError('RT_INVALID_DATA', `names must not have more than ${MAX_NAMES} channels`)
    for (const name of names) requireChannel(ids, name)
    const channels = [...new Set(names.map((name) => resolveAlias(name, userId)))]
    const refusals = await access.requireEach(caller, channels)
    const failed = refusals.find((refusal) => refusal !== null && refusal.code !== 'RT_FORBIDDEN')
    if (failed !== undefined && failed !== null) throw failed
    const allowed = channels.filter((_, i) => refusals[i] === null)
    const sizes = await members.sizes(tenantId, allowed)
    return { data: allowed.map((channel, i) => ({ channel, users: sizes[i]?.users ?? null, connections: sizes[i]?.connections ?? null })) }
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
