import { FormatRegistry, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { RouteOptions } from 'fastify'
import type { Test } from 'tap'
import {
  clientEvents, rest as routes, serverEvents, type Ack, type ClientData, type RestAnswer, type RestBody, type ServerData
} from '../plugins/schemas.js'
import { allowAll, buildNodes, connect, leave, overBackends, PREFIX, rest, socketTo, tokenOf, until, user, type Frame } from './helper.js'

FormatRegistry.Set('date-time', (value) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value))

/** As the frame says, and nothing that the schema does not name. */
function fits (t: Test, schema: TSchema, value: unknown, what: string): void {
  t.strictSame([...Value.Errors(schema, value)].map(({ path, message }) => `${path}: ${message}`), [], what)
  t.strictSame(Value.Clean(schema, Value.Clone(value)), value, `${what} holds nothing else`)
}

const sent = {
  ping: {},
  subscribe: { channel: 'group.x', since: 0 },
  unsubscribe: { channel: 'group.y' },
  'message:direct': { recipientId: 2, message: 'x', conversationId: 'c' },
  'message:group': { channel: 'group.x', message: 'x', conversationId: 'c' },
  'broadcast:message': { message: 'x' },
  'notification:send': { recipientIds: [2, 3], title: 't', body: 'b' },
  history: { channel: 'group.x', limit: 10 },
  'conversation:read': { channel: 'group.x', messageId: 1 },
  'user:typing': { conversationId: 'c', isTyping: true, recipientId: 2 },
  'user:presence': { status: 'away', lastMessage: 'lunch', data: { emoji: '🥪' } },
  'presence:watch': { userIds: [2, 1] },
  'presence:unwatch': {}
} satisfies { [Event in Exclude<keyof typeof clientEvents, 'auth' | 'message:delivered' | 'message:edit' | 'message:delete'>]: ClientData<Event> }

overBackends((test, backend) => {
  test('every ack and every event has the shape of its schema', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: { ...allowAll, presenceGrace: 0 } })
    const [one, two] = [await connect(a, user(1)), await connect(b, user(2))]
    await two.request('subscribe', { channel: 'group.x' })
    for (const [event, data] of Object.entries(sent)) {
      fits(t, clientEvents[event as keyof typeof sent].data, data, event)
      fits(t, clientEvents[event as keyof typeof sent].ack, await one.request(event, data), `the ack of ${event}`)
    }
    const { data: { messageId } } = await until('the message is sent', () => two.frames.find(({ event }) => event === 'message:direct'))
    fits(t, clientEvents['message:delivered'].ack, await two.request('message:delivered', { messageId }), 'the ack of message:delivered')
    for (const event of ['message:edit', 'message:delete'] as const) {
      const data = event === 'message:edit' ? { messageId, message: 'y', data: { bold: true } } : { messageId }
      fits(t, clientEvents[event].data, data, event)
      fits(t, clientEvents[event].ack, await one.request(event, data), `the ack of ${event}`)
    }
    // Without an id each answers with an event of its own; what cannot be is an error.
    one.send('subscribe', { channel: 'group.z' })
    one.send('unsubscribe', { channel: 'group.z' })
    one.send('ping')
    one.send('nonsense')
    const expiring = socketTo(a)
    expiring.socket.once('open', () => { expiring.send('auth', { token: tokenOf(user(3, { expiresAt: a.clock.now() + 20_000 })) }) })
    await a.app.realtime.channels.message({ tenantId: 1, recipientId: 2, message: 'from the system', conversationId: 'c' })
    await until('the end of the token is sent', () => expiring.frames.find(({ event }) => event === 'token:expiring'))
    await leave(a, expiring)
    const here = (): Frame[] => [one, two, expiring].flatMap(({ frames }) => frames)
    // Each ack was taken out above.
    const emitted = ['subscribed', 'unsubscribed', 'pong', 'error', 'message:direct', 'message:group', 'broadcast:message', 'notification:received',
      'message:delivered', 'user:typing', 'user:presence', 'user:online', 'user:offline', 'token:expiring', 'authenticated',
      'message:edited', 'message:deleted', 'conversation:read', 'conversation:activity'] as const
    const missing = (): string[] => emitted.filter((event) => !here().some((frame) => frame.event === event))
    await until('every event was sent', () => missing().length === 0).catch(() => { t.strictSame(missing(), [], 'every event was sent') })
    for (const { event, data } of here()) fits(t, serverEvents[event as keyof typeof serverEvents], data, event)
    // Of large tenants, of channels with members, and of streams: in the tests of those.
    const elsewhere = ['presence:count', 'presence:mode', 'channel:members', 'channel:count', 'close']
    t.strictSame([...emitted, ...elsewhere, 'ack'].sort(), Object.keys(serverEvents).sort(), 'and there are no others')
  })

  test('the routes are those of the schemas, and answer as they say', async (t) => {
    const found = new Map<string, RouteOptions>()
    const [host] = await buildNodes(t, {
      backend, options: allowAll, before: (app) => { app.addHook('onRoute', (route) => { found.set(`${String(route.method)} ${route.url.slice(PREFIX.length)}`, route) }) }
    })
    const expected = Object.keys(routes).sort()
    t.strictSame([...found.keys()].filter((route) => !route.startsWith('HEAD ') && route !== 'GET /ws' && !route.endsWith('*')).sort(), expected)
    const body: RestBody<'POST /connect'> = { connection_id: 'tab' }
    const connected = await rest(host, user(1), 'POST', '/connect', body)
    const { data }: RestAnswer<'POST /connect', 201> = connected.body
    t.match(data, { connection_id: 'tab', status: 'connected', user_id: 1 })
    fits(t, routes['POST /connect'].response[201], connected.body, 'POST /connect')
    const post = async (path: keyof typeof routes, ok: 200 | 202, body: object): Promise<void> => {
      const answer = await rest(host, user(1), 'POST', path.slice('POST '.length), body)
      t.equal(answer.status, ok, path)
      fits(t, (routes[path].response as unknown as Record<number, TSchema>)[ok] ?? serverEvents.error, answer.body, path)
    }
    await post('POST /heartbeat', 200, { connection_id: 'tab' })
    await post('POST /subscribe', 200, { connection_id: 'tab', channel: 'group.x' })
    await post('POST /presence/update', 200, { status: 'busy' })
    await post('POST /typing', 200, { conversation_id: 'c', is_typing: true })
    await post('POST /messages/direct', 202, { recipient_id: 2, message: 'x', conversation_id: 'c' })
    await post('POST /messages/delivered', 200, { message_ids: [1] })
    await post('POST /conversations/read', 200, { with: 2, message_id: 1 })
    await post('POST /notifications', 202, { recipient_ids: [2], title: 't', body: 'b' })
    const big = await rest(host, user(1), 'POST', '/broadcast', { message: 'x'.repeat(1024 * 1024) })
    t.equal(big.status, 413)
    fits(t, routes['POST /broadcast'].response[413], big.body, 'too large')
  })
})

// What a client's compiler makes of it.
export const direct: ServerData<'message:direct'> = { messageId: 1, senderId: 0, recipientId: 2, message: 'x', conversationId: 'c', timestamp: '' }
export const ack: Ack<'subscribe'> = { channel: 'group.x', position: 0 }
// @ts-expect-error -- no such status
export const wrong: ClientData<'user:presence'> = { status: 'asleep' }
