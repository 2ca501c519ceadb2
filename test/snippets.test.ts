import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import autoload from '@fastify/autoload'
import cookie from '@fastify/cookie'
import session from '@fastify/session'
import { FormatRegistry, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import * as client from '../client/src/index.js'
import * as suite from '../plugins/index.js'
import { channels, type Authorize, type FailedEvent } from '../plugins/index.js'
import { errorCodes } from '../lib/errors.js'
import { clientEvents, serverEvents } from '../plugins/schemas.js'
import { buildApp, connect, identityOf, type PluginName, type TestAppOptions, type TestClient } from '../plugins/testing.js'
import { internalsOf } from '../lib/internals.js'
import { example, ROOT } from './examples.js'
import { temporaryFolder } from './exit-hooks.js'
import { startExample } from './run-snippet.js'
import { runHere } from './run-snippet-here.js'
import { complaintsAbout, declarationsIn, isDeclarations } from './snippet-types.js'
import { placeOf, snippets } from './snippets.js'

/**
 * Every code block of the documents is executed or checked. One that nothing runs fails: a new snippet needs a language
 * that is known here or in snippet-languages.test.ts, and a snippet in TypeScript a name and a run.
 */

const all = snippets()
const named = all.filter(({ language, name }) => (language === 'ts' || language === 'js') && name !== null)

/** Run by other tests, or nothing but types. */
const ELSEWHERE: Record<string, string> = {
  host: 'test/readme.test.ts',
  cookies: 'test/readme.test.ts',
  testing: 'test/readme.test.ts',
  events: 'test/readme.test.ts',
  transaction: 'test/readme.test.ts',
  'move-to-string-ids': 'test/move-to-string-ids.test.ts',
  ...Object.fromEntries(['react-server', 'react-vite', 'react-types', 'socket-io-before-server', 'socket-io-before-page', 'socket-io-after-server', 'socket-io-after-page']
    .map((name) => [name, 'test/browser/guides.test.ts'])),
  'host-ids': 'test/package.test.ts',
  'host-events': 'test/package.test.ts',
  schemas: 'test/package.test.ts'
}

const ann = { tenantId: 1, userId: 1 }
const ben = { tenantId: 1, userId: 2 }
/** What a host brings. */
const host = {
  database: 'sqlite::memory:',
  redis: undefined,
  authenticate: ({ token }: { token: string | undefined }) => identityOf(token),
  authorize: () => true,
  resolveUsers: () => new Map()
}
const { realtime, connections, presence, typing, conversations, stats } = suite
const plugins = { realtime, connections, presence, typing, channels, conversations, stats }

async function appOf (t: Test, options: TestAppOptions = {}): Promise<FastifyInstance> {
  const { app } = await buildApp({ ...options, core: { authorize: () => true, ...options.core } })
  t.teardown(async () => { await app.close() })
  return app
}

async function appWithout (t: Test, without: PluginName, options: TestAppOptions = {}): Promise<FastifyInstance> {
  return await appOf(t, { ...options, plugins: (['connections', 'presence', 'typing', 'channels', 'stats'] as const).filter((name) => name !== without) })
}

function bareApp (t: Test): FastifyInstance {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  return app
}

/** Whether a page of this origin may open a socket. */
async function opens (app: FastifyInstance, origin: string): Promise<boolean> {
  return await connect(app, ann, { headers: { origin } }).then(() => true, () => false)
}

/** What it prints is not for the reader of the tests. */
async function silently (t: Test, name: string, given: Record<string, unknown>, code?: string): Promise<unknown[][]> {
  const printed: unknown[][] = []
  const { log, assert } = console
  console.log = (...args: unknown[]) => { printed.push(args) }
  console.assert = (holds, ...args) => { t.ok(holds, `${name}: ${args.join(' ') || 'its assertion holds'}`) }
  t.teardown(() => { Object.assign(console, { log, assert }) })
  await runHere(t, name, given, code)
  return printed
}

async function two (app: FastifyInstance): Promise<[TestClient, TestClient]> {
  return [await connect(app, ann), await connect(app, ben)]
}

/** What each example does when it is run. */
const runs: Record<string, (t: Test) => Promise<void>> = {
  async register (t) {
    const app = bareApp(t)
    await runHere(t, 'register', { app, ...host, ...plugins })
    await app.ready()
    t.strictSame(Object.keys(app.realtime).filter((part) => part in plugins).sort(), ['channels', 'connections', 'presence', 'stats', 'typing'])
  },
  async lifecycle (t) {
    const lines: string[] = []
    const app = await appOf(t)
    app.log.info = (_fields: unknown, text?: string) => { lines.push(text ?? '') }
    app.log.warn = (_fields: unknown, text?: string) => { lines.push(text ?? '') }
    await runHere(t, 'lifecycle', { app })
    await connect(app, ann)
    internalsOf(app).bus.emit('failed', { tenantId: 1, userId: 2, senderId: 1, messageId: 1, id: 1, channel: 'private-user.2', type: 'message:direct', data: {}, payload: '{}', reason: 'too old' })
    t.ok(lines.includes('came online'))
    t.ok(lines.includes('not confirmed'))
  },
  async 'string-ids' (t) {
    const app = bareApp(t)
    await runHere(t, 'string-ids', { app, ...host, ...plugins })
    t.equal(internalsOf(app).ids.kind, 'string')
  },
  async 'presence-visible' (t) {
    const app = await appWithout(t, 'presence')
    await runHere(t, 'presence-visible', { app, presence, friendsAmong: async (_tenantId: number, viewerId: number, userIds: number[]) => userIds.filter(() => viewerId !== 1) })
    const [client, other] = await two(app)
    const statusOf = async (viewer: TestClient, userId: number): Promise<string> => (await viewer.request('presence:watch', { userIds: [userId] })).users[0].status as string
    t.strictSame([await statusOf(client, 2), await statusOf(other, 1)], ['offline', 'online'])
  },
  async 'channel-members' (t) {
    const app = await appWithout(t, 'channels')
    await runHere(t, 'channel-members', { app, channels })
    const client = await connect(app, ann)
    t.match(await client.request('subscribe', { channel: 'group.x' }), { count: 1, members: [{ userId: 1 }] })
    t.match(await client.request('subscribe', { channel: 'stream.x' }), { count: 1, members: [{ userId: 1 }] })
  },
  async metrics (t) {
    const app = await appWithout(t, 'stats')
    await runHere(t, 'metrics', { app, stats })
    t.match((await app.inject('/metrics')).body, /realtime_sockets 0/)
  },
  async 'own-metrics' (t) {
    const app = await appOf(t, { stats: { metrics: '/metrics' } })
    await runHere(t, 'own-metrics', { app, orders: new Map([[1, {}], [2, {}]]) })
    t.match((await app.inject('/metrics')).body, /shop_open_orders 2/)
  },
  async 'serve-asyncapi' (t) {
    const app = await appOf(t)
    await runHere(t, 'serve-asyncapi', { app })
    t.match((await app.inject('/docs/asyncapi.json')).json(), { asyncapi: '3.0.0', info: { title: 'Our API' }, servers: {} })
  },
  async swagger (t) {
    const app = bareApp(t)
    await runHere(t, 'swagger', { app })
    await app.register(realtime, { ...host, database: 'sqlite::memory:' } as suite.RealtimeOptions)
    await app.register(presence)
    await app.ready()
    t.match((app as unknown as { swagger: () => object }).swagger(), { openapi: '3.1.0', paths: { '/api/websocket/online-users': {} }, security: [{ bearer: [] }] })
  },
  async 'define-events' (t) {
    const { events } = await runHere(t, 'define-events')
    const app = await appOf(t, { channels: { events: events as suite.CustomEventMap } })
    t.match(await app.realtime.channels.publish({ tenantId: 1, channel: 'group.orders', event: 'order:shipped', data: { order: 5 } }), { messageId: Number })
  },
  async 'client-events' (t) {
    const { events } = await runHere(t, 'define-events')
    const app = await appOf(t, { channels: { events: events as suite.CustomEventMap } })
    const { code, made } = await clientOf(t, app, 'client-events')
    const printed = await silently(t, 'client-events', {}, `${code}\nawait new Promise((resolve) => { client.on('connected', resolve) })
      await client.subscribe('group.x')\nawait new Promise<void>((resolve) => { client.on('board:moved', () => { resolve() }); (globalThis as any).go() })`)
    t.strictSame(printed, [['c1', 2]])
    await made.stop()
  },
  async autoload (t) {
    const app = bareApp(t)
    const { default: plugin } = await runHere(t, 'autoload')
    const folder = join(temporaryFolder('autoload'), 'plugins')
    mkdirSync(folder)
    Object.assign(globalThis, { autoloaded: plugin })
    t.teardown(() => { Reflect.deleteProperty(globalThis, 'autoloaded') })
    writeFileSync(join(folder, 'realtime.mjs'), 'export default globalThis.autoloaded')
    await app.register(autoload, { dir: folder, forceESM: true })
    await app.ready()
    t.equal((await app.inject({ url: '/api/websocket/online-users', headers: { 'x-user': 'ann' } })).statusCode, 200)
    t.equal((await app.inject('/api/websocket/online-users')).statusCode, 401)
  },
  async 'own-limiter' (t) {
    const counted: string[] = []
    const app = await appOf(t, {
      before: async (app) => { await runHere(t, 'own-limiter', { app, countAgainstYourOwnLimit: (address: string) => counted.push(address) }) },
      after: (app) => { app.get('/own', async () => ({})) }
    })
    await app.inject('/api/websocket/stats')
    t.equal(counted.length, 0)
    await app.inject('/own')
    t.equal(counted.length, 1)
  },
  async 'own-websockets' (t) {
    const app = bareApp(t)
    await runHere(t, 'own-websockets', { app, ...host, ...plugins })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    const socket = new WebSocket(`${url.replace('http', 'ws')}/live`)
    t.equal(String(await new Promise((resolve) => { socket.once('message', resolve) })), 'your own protocol')
    socket.terminate()
    await connect(app, ann)
  },
  async session (t) {
    const { app, cookieOf } = await appWithSessions(t, 'session')
    const own = await connect(app, null, { headers: { cookie: await cookieOf(7) } })
    t.match(await own.request('ping'), { timestamp: String })
    t.equal((await app.inject('/api/websocket/stats')).statusCode, 401)
  },
  async 'logout-route' (t) {
    const { app, cookieOf } = await appWithSessions(t, 'session', 'logout-route')
    const cookieOfAnn = await cookieOf(7)
    const own = await connect(app, null, { headers: { cookie: cookieOfAnn } })
    t.strictSame((await app.inject({ method: 'POST', url: '/logout', headers: { cookie: cookieOfAnn } })).json(), { loggedOut: 7 })
    t.equal(await own.closed, 4401)
  },
  async cors (t) {
    const app = bareApp(t)
    await runHere(t, 'cors', { app })
    await app.register(realtime, { ...host, database: 'sqlite::memory:' } as suite.RealtimeOptions)
    await app.register(suite.stats)
    const { headers } = await app.inject({ method: 'OPTIONS', url: '/api/websocket/stats', headers: { origin: 'https://app.example.com', 'access-control-request-method': 'GET' } })
    t.match(headers, { 'access-control-allow-origin': 'https://app.example.com', 'access-control-allow-credentials': 'true' })
  },
  async 'cross-origin-client' (t) {
    const requests: RequestInit[] = []
    await runHere(t, 'cross-origin-client', {
      createClient: ({ fetch }: { fetch: (url: string, init: object) => Promise<unknown> }) => { fetch('http://x', {}).catch(() => {}) },
      fetch: async (_url: string, init: RequestInit) => { requests.push(init) }
    })
    t.match(requests, [{ credentials: 'include' }])
  },
  async shells (t) {
    const app = await appWithout(t, 'connections')
    await runHere(t, 'shells', { app, connections })
    t.ok(await opens(app, 'capacitor://localhost'))
    t.notOk(await opens(app, 'capacitor://elsewhere'))
  },
  async 'app-test' (t) {
    const app = bareApp(t)
    await app.register((await runHere(t, 'autoload')).default as Parameters<typeof app.register>[0])
    await runHere(t, 'app-test', { app })
    t.pass('it runs to its end')
  },
  async 'rotate-secret' (t) {
    const [before, after] = ['n'.repeat(32), 'o'.repeat(32)]
    Object.assign(process.env, { NEW_SECRET: before, OLD_SECRET: after })
    t.teardown(() => { for (const name of ['NEW_SECRET', 'OLD_SECRET']) Reflect.deleteProperty(process.env, name) })
    const app = bareApp(t)
    await runHere(t, 'rotate-secret', { app, ...host, ...plugins })
    t.ok(app.realtime.nodeId)
    Reflect.deleteProperty(process.env, 'OLD_SECRET')
    await t.rejects(runHere(t, 'rotate-secret', { app: bareApp(t), ...host, ...plugins }), { code: 'RT_OPTION_INVALID' })
  },
  async 'testing-rest' (t) {
    const child = await startExample(t, 'testing-rest')
    t.match({ ...await child.exited, output: child.output() }, { code: 0, output: '' })
  },
  async 'recipe-notify' (t) {
    const app = await appOf(t)
    const [, recipient] = await two(app)
    await runHere(t, 'recipe-notify', { app })
    t.match(await recipient.next('notification:received'), { title: 'New order', tag: 'orders' })
  },
  async 'recipe-dedupe' (t) {
    const app = await appOf(t)
    const [, recipient] = await two(app)
    await silently(t, 'recipe-dedupe', { app })
    t.match(await recipient.next('message:direct'), { conversationId: 'orders' })
    t.strictSame(await recipient.soFar('message:direct'), [], 'once')
  },
  async 'recipe-online' (t) {
    const app = await appOf(t)
    await two(app)
    t.strictSame(await silently(t, 'recipe-online', { app }), [[2, ['1: online', '2: online']]])
  },
  async 'recipe-logout' (t) {
    const app = await appOf(t)
    const [other, user] = await two(app)
    await runHere(t, 'recipe-logout', { app })
    t.equal(await user.closed, 4401)
    await other.request('ping')
  },
  async 'recipe-ban' (t) {
    const app = await appOf(t)
    const [, user] = await two(app)
    await runHere(t, 'recipe-ban', { app })
    t.equal(await user.closed, 4403)
    await t.rejects(connect(app, ben), 'no one who is banned comes back')
  },
  async 'recipe-recheck' (t) {
    const members = new Set([1, 2])
    const app = await appOf(t, { core: { authorize: ({ identity }) => members.has(Number(identity.userId)) } })
    const both = await two(app)
    for (const one of both) await one.request('subscribe', { channel: 'group.board' })
    await runHere(t, 'recipe-recheck', { app, members })
    t.match(await both[1].next('unsubscribed'), { channel: 'group.board', reason: 'revoked' })
    t.strictSame(await both[0].soFar('unsubscribed'), [])
  },
  async 'recipe-slow-mode' (t) {
    const { authorize } = await runHere(t, 'recipe-slow-mode') as { authorize: Authorize }
    const sender = await connect(await appOf(t, { core: { authorize } }), ann)
    const message = { channel: 'group.slow.1', message: 'hi', conversationId: 'c' }
    await sender.request('message:group', message)
    await t.rejects(sender.request('message:group', message), { code: 'RT_RATE_LIMITED', message: /Slow mode/, retryAfter: Number })
    await sender.request('message:group', { ...message, channel: 'group.fast' })
  },
  async 'recipe-moderate' (t) {
    const app = await appWithout(t, 'channels')
    await runHere(t, 'recipe-moderate', { app, channels })
    const [sender, reader] = await two(app)
    await reader.request('subscribe', { channel: 'group.x' })
    const message = { channel: 'group.x', conversationId: 'c' }
    await t.rejects(sender.request('message:group', { ...message, message: 'see https://evil.example' }), { code: 'RT_REJECTED', message: 'No links here' })
    await sender.request('message:group', { ...message, message: '  hi  ' })
    t.match(await reader.next('message:group'), { message: 'hi' })
  },
  async 'recipe-presence' (t) {
    const app = await appOf(t)
    await connect(app, ann)
    t.match(await silently(t, 'recipe-presence', { app }), [[/^Online on/, null]])
  },
  async 'recipe-events' (t) {
    const app = await appOf(t)
    const warned: object[] = []
    app.log.warn = (fields: object) => { warned.push(fields) }
    await runHere(t, 'recipe-events', { app })
    const failed: FailedEvent = { tenantId: 1, userId: 2, senderId: 1, messageId: 5, id: 5, channel: 'private-user.2', type: 'message:direct', data: {}, payload: '{}', reason: 'too old' }
    internalsOf(app).bus.emit('failed', failed)
    t.strictSame(warned, [{ tenantId: 1, userId: 2, messageId: 5 }])
  },
  async 'conversations-register' (t) {
    const app = bareApp(t)
    await runHere(t, 'conversations-register', { app, ...host, ...plugins })
    await app.ready()
    t.ok(app.realtime.conversations)
  },
  async 'conversations-screen' (t) {
    const called: string[] = []
    const client = new Proxy({}, { get: (_, name) => async () => { called.push(String(name)); return { data: [], more: false } } })
    await runHere(t, 'conversations-screen', { client })
    t.strictSame(called, ['conversations', 'history', 'history', 'markRead', 'edit', 'delete'])
  },
  async 'conversations-retention' (t) {
    const app = bareApp(t)
    await app.register(realtime, host)
    await runHere(t, 'conversations-retention', { app, channels })
    const { messageId } = await app.realtime.channels.group({ tenantId: 1, channel: 'support.1', message: 'x', conversationId: 'c' })
    const row = await internalsOf(app).database.db.selectFrom('websocket_events').select('retention_days').where('id', '=', messageId).executeTakeFirst()
    t.equal(row?.retention_days, 365)
  },
  async 'conversations-erase' (t) {
    const app = await appOf(t)
    await runHere(t, 'conversations-erase', { app, tenantId: 1, userId: 7 })
  },
  async 'conversations-push' (t) {
    const app = await appOf(t)
    const sent: object[] = []
    const take = async (what: object): Promise<void> => { sent.push(what) }
    await runHere(t, 'conversations-push', { app, sendPush: take, sendMail: take })
    const event = { tenantId: 1, userId: 2, senderId: 1, messageId: 5, type: 'message:direct', data: { message: 'hi' } }
    internalsOf(app).bus.emit('waiting', event)
    internalsOf(app).bus.emit('failed', { ...event, id: 5, channel: 'private-user.2', payload: '{}', reason: 'too many waiting' })
    t.match(sent, [{ tenantId: 1, userId: 2, title: 'Message from 1', text: 'hi', collapseKey: '5' }, { userId: 2, text: 'Message 5: too many waiting' }])
  },
  async 'recipe-health' (t) {
    const app = await appOf(t)
    await runHere(t, 'recipe-health', { app })
    t.match(await app.inject('/health').then((response) => [response.statusCode, response.json()]), [200, { ok: true, database: true, redis: true }])
  },
  async 'client-import' (t) {
    const { WebSocketClient } = await runHere(t, 'client-import', {}, `${example('client-import')}export { WebSocketClient }`)
    t.equal(WebSocketClient, client.WebSocketClient)
  },
  async client (t) {
    const app = await appOf(t, { channels: { events: { 'order:paid': { data: { type: 'object', properties: { order: { type: 'integer' } }, required: ['order'] } as never } } } })
    const shown: unknown[][] = []
    const listeners: Record<string, () => void> = {}
    const field = { value: 'hello', addEventListener: (name: string, listener: () => void) => { listeners[name] = listener } }
    const note = (...args: unknown[]): void => { shown.push(args) }
    const { code, made } = await clientOf(t, app, 'client')
    await silently(t, 'client', { input: field, form: field, reload: note, show: note, showTyping: note, markPaid: note, markStored: (id: number) => { note('stored', typeof id) } }, code)
    const other = await connect(app, ben)
    await other.request('subscribe', { channel: 'group.lobby' })
    listeners.input?.()
    await other.next('user:typing')
    listeners.submit?.()
    t.match(await other.next('message:group'), { message: 'hello', userId: 1 })
    await other.request('message:group', { channel: 'group.lobby', message: 'back', conversationId: 'lobby' })
    await app.realtime.channels.publish({ tenantId: 1, channel: 'group.lobby', event: 'order:paid', data: { order: 5 } })
    await until(() => shown.some(([order]) => order === 5))
    t.strictSame(shown.filter(([first]) => first === 'stored' || first === 2 || first === 5), [['stored', 'number'], [2, 'back'], [5]])
    await made.stop()
  },
  async 'client-own-events' (t) {
    const events = { 'board:moved': { data: { type: 'object', properties: { card: { type: 'string' } }, required: ['card'] } as never, direction: 'both' } } as const
    const app = await appOf(t, { channels: { events } })
    const other = await connect(app, ben)
    await other.request('subscribe', { channel: 'group.x' })
    const moved: unknown[][] = []
    const { code, made } = await clientOf(t, app, 'client-own-events')
    await silently(t, 'client-own-events', { createClient: client.createClient, move: (...args: unknown[]) => { moved.push(args) } }, `${code}\nawait client.subscribe('group.x')`)
    t.match(await other.next('board:moved'), { card: 'c1', userId: 1 })
    await other.request('board:moved', { channel: 'group.x', card: 'c2' })
    await until(() => moved.length > 0)
    t.strictSame(moved, [['c2']])
    await made.stop()
  }
}

async function until (holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; !holds();) {
    if (Date.now() > deadline) throw new Error('not within 10 s')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** An example of the client against an app, as user 1: with an address that is not relative, and what Node 20 lacks. */
async function clientOf (t: Test, app: FastifyInstance, name: string): Promise<{ code: string, made: { stop: () => Promise<void> } }> {
  const sender = await connect(app, ben) // which lets the app listen
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const token = Buffer.from(JSON.stringify(ann)).toString('base64url')
  const made: Array<client.WebSocketClient> = []
  const of = (options: client.WebSocketClientOptions): client.WebSocketClient => {
    const one = new client.WebSocketClient({ ...options, baseUrl: `${url}/api/websocket`, token, WebSocket: WebSocket })
    made.push(one)
    return one
  }
  Object.assign(globalThis, { exampleClient: of, go: () => { void sender.request('board:moved', { channel: 'group.x', card: 'c1' }) } })
  t.teardown(() => { for (const key of ['exampleClient', 'go']) Reflect.deleteProperty(globalThis, key) })
  const code = example(name)
    .replace(/^import .*createClient.*$/m, '')
    .replace(/(?:new WebSocketClient|createClient)<[^(]*>\(/, 'const_of_client(')
    .replace('const_of_client(', '(globalThis as any).exampleClient(')
  return { code, made: { stop: async () => { for (const one of made) await one.disconnect() } } }
}

/** A host with cookie sessions, and these examples in it. */
async function appWithSessions (t: Test, ...names: string[]): Promise<{ app: FastifyInstance, cookieOf: (id: number) => Promise<string> }> {
  const app = bareApp(t)
  await app.register(cookie)
  await app.register(session, { secret: 'a secret of at least thirty-two characters', cookie: { secure: false }, saveUninitialized: false })
  for (const name of names) await runHere(t, name, { app, realtime })
  for (const plugin of [connections, presence, stats]) await app.register(plugin)
  app.post<{ Body: { id: number } }>('/login', async ({ session, body: { id } }) => {
    Object.assign(session, { user: { company: 1, id } })
    return {}
  })
  return {
    app,
    cookieOf: async (id) => {
      const { headers } = await app.inject({ method: 'POST', url: '/login', payload: { id } })
      return String(headers['set-cookie']).split(';')[0] ?? ''
    }
  }
}

t.test('every snippet in TypeScript has a name that a test runs, or declares what the package has', (t) => {
  const names = named.map(({ name }) => name)
  t.equal(new Set(names).size, names.length, 'a name stands for one example')
  for (const snippet of named) {
    const { name } = snippet
    const elsewhere = ELSEWHERE[name ?? '']
    if (elsewhere !== undefined) t.ok(readFileSync(join(ROOT, elsewhere), 'utf8').includes(`'${name}'`), `${elsewhere} runs ${placeOf(snippet)}`)
    else t.ok(name !== null && name in runs, `a test runs ${placeOf(snippet)}`)
  }
  for (const name of [...Object.keys(runs), ...Object.keys(ELSEWHERE)]) t.ok(names.includes(name), `there is an example ${name}`)
  t.end()
})

t.test('declarations in the documents are those of the package', (t) => {
  const api = declarationsIn(readFileSync(join(ROOT, 'docs/api.txt'), 'utf8').split('# declarations')[1] ?? '')
  for (const snippet of all.filter(({ language, name }) => language === 'ts' && name === null)) {
    t.ok(isDeclarations(snippet), `${placeOf(snippet)} declares, or has a name`)
    for (const [name, text] of declarationsIn(snippet.code)) t.equal(text, api.get(name), `${placeOf(snippet)}: ${name}`)
  }
  t.end()
})

t.test('the types of every snippet hold', (t) => {
  const events = named.find(({ name }) => name === 'define-events')
  if (events === undefined) throw new Error('there is an example define-events')
  const checked = named.filter((snippet) => snippet.language === 'ts' && snippet !== events)
    .map((snippet) => snippet.name === 'client-events' ? { ...snippet, besides: { 'events.ts': events } } : snippet)
  t.strictSame(complaintsAbout(checked), [])
  t.end()
})

for (const [name, run] of Object.entries(runs)) t.test(`the example ${name} does what its page says`, run)

const schemasOf = (event: string): TSchema[] => [
  (serverEvents as Record<string, TSchema>)[event], (clientEvents as Record<string, { data: TSchema }>)[event]?.data
].filter((schema) => schema !== undefined)

t.test('JSON in the documents is valid, and frames are those of the protocol', (t) => {
  FormatRegistry.Set('date-time', (text) => !Number.isNaN(Date.parse(text)))
  const found = all.filter(({ language }) => language === 'json')
  t.ok(found.length > 0)
  for (const snippet of found) {
    const frame = JSON.parse(snippet.code) as { event?: string, data?: unknown, code?: string }
    if (frame.code !== undefined) t.ok(errorCodes.some((code) => code === frame.code), placeOf(snippet))
    if (frame.event === undefined) continue
    const schemas = schemasOf(frame.event)
    // Events of the host's own have no schema here.
    if (schemas.length > 0) t.ok(schemas.some((schema) => Value.Check(schema, frame.data)), placeOf(snippet))
  }
  t.end()
})
