import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import t from 'tap'
import { WebSocket } from 'ws'
import type * as Package from '../../client/src/index.js'
import { WebSocketClient } from '../../client/src/index.js'
import { allowAll, buildHost, PREFIX, tokenOf, until, user } from '../helper.js'
import { doorTo } from './harness.js'
import { compile, run } from './model-run.js'

/** Bytes, minified and gzipped. */
const MOST = 9.15 * 1024

t.test('a page gets at most 9.15 KiB, and nothing of the server', async (t) => {
  await promisify(execFile)(process.execPath, ['client/build.js'])
  const { outputFiles: [bundle] } = await build({ entryPoints: ['client/dist/esm/index.js'], bundle: true, minify: true, format: 'esm', target: 'es2020', write: false })
  for (const contents of [readFileSync('client/dist/esm/index.js'), bundle?.contents ?? '']) {
    const size = gzipSync(contents, { level: 9 }).length
    t.comment(`${size} bytes`)
    t.ok(size > 0 && size <= MOST, `${size} bytes`)
  }
  const { metafile: { inputs } } = await build({ entryPoints: ['client/src/index.ts'], bundle: true, format: 'esm', platform: 'browser', write: false, metafile: true })
  t.strictSame(Object.keys(inputs).filter((name) => !name.startsWith('client/src/')), [])
})

t.test('the published bundle behaves as its sources, although its internal names are short', async (t) => {
  const file = resolve('client/dist/esm/index.js')
  const { count, failures } = await run({ ...await compile('client'), file }, 1, 300)
  t.strictSame([count, failures], [300, []])
  const { WebSocketClient: Published } = await import(file) as typeof Package
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const door = await doorTo(t, host)
  const make = (userId: number): WebSocketClient => {
    const client = new Published({ baseUrl: door.url + PREFIX, token: tokenOf(user(userId)), WebSocket, reconnectDelay: 200, pollInterval: 100 })
    t.teardown(async () => { await client.disconnect() })
    return client
  }
  const [one, two] = [make(1), make(2)]
  for (const client of [one, two]) client.on('error', ({ code }) => { t.equal(code, 'RT_SOCKET_BLOCKED') })
  const received: string[] = []
  one.on('message:group', ({ userId, channel, message }) => { received.push(`${userId} ${channel} ${message}`) })
  one.on('message:direct', ({ senderId, message }) => { received.push(`${senderId} ${message}`) })
  one.on('user:typing', ({ isTyping }) => { received.push(`types ${isTyping}`) })
  await one.subscribe('group.a')
  two.recordTyping('c', true, { recipientId: 1 })
  await until('typing is received', () => received.length === 1)
  await two.send('message:group', { channel: 'group.a', message: 'hello', conversationId: 'g' })
  t.match(await two.send('message:direct', { recipientId: 1, message: 'psst', conversationId: 'd' }), { messageId: Number, timestamp: String })
  await until('both are received', () => received.length === 3)
  t.match(await two.updatePresence('busy', { lastMessage: 'in a call' }), { status: 'busy' })
  t.match(await one.getPresence(2), { user_id: 2, status: 'busy' })
  door.blocked = true
  door.cut()
  await until('it polls', () => one.transport === 'polling' && two.transport === 'polling')
  t.match(await two.send('message:group', { channel: 'group.a', message: 'by REST', conversationId: 'g' }), { messageId: Number })
  await until('it is received', () => received.length === 4)
  door.streams = true
  await until('it reads a stream', () => one.transport === 'sse' && two.transport === 'sse')
  two.recordTyping('c', true, { recipientId: 1 })
  await until('typing is received on it', () => received.filter((line) => line === 'types true').length === 2)
  door.blocked = false
  await until('sockets again', () => one.transport === 'websocket')
  t.equal(received[0], 'types true')
  t.strictSame(received.filter((line) => !line.startsWith('types')), ['2 group.a hello', '2 psst', '2 group.a by REST'])
})

t.test('a page that declares string ids has them in events, answers and calls', async (t) => {
  const folder = t.testdir({
    'package.json': '{ "type": "module" }',
    'tsconfig.json': '{ "compilerOptions": { "noEmit": true, "strict": true, "module": "nodenext", "target": "es2022", "types": [] } }',
    'page.ts': `
      import { createClient, type Id } from 'fastify-realtime-client'
      declare module 'fastify-realtime-client' { interface Register { ids: 'string' } }
      export const id: Id = 'auth0|5'
      // @ts-expect-error -- a number is none
      export const wrong: Id = 5
      const client = createClient({ baseUrl: '/' })
      client.on('message:group', ({ userId, messageId }) => { userId.trim() + messageId.toFixed() })
      client.on('identity-changed', ({ previous }) => { previous.userId.trim() })
      await client.send('message:direct', { recipientId: id, message: 'x', conversationId: 'c' })
      // @ts-expect-error -- a number is none
      await client.getPresence(5)
      ;(await client.watch([id])).users[0]?.userId.trim()
    `,
    node_modules: { 'fastify-realtime-client': t.fixture('symlink', resolve('client')) }
  })
  const { stdout } = await promisify(execFile)(process.execPath, [resolve('node_modules/typescript/bin/tsc')], { cwd: folder }).catch((err: { stdout: string }) => err)
  t.equal(stdout, '')
})

t.test('events and sends are typed by the protocol, and by the host', async (t) => {
  const client = new WebSocketClient<{ 'order:paid': { messageId: number, order: number } }>({ baseUrl: '/api/websocket', autoConnect: false })
  client.on('message:direct', ({ senderId, message }) => { t.type(senderId + message.length, 'number') })
  client.on('order:paid', ({ order }) => { t.type(order, 'number') })
  // @ts-expect-error no such event
  client.on('order:shipped', () => {})
  // @ts-expect-error no such field
  client.on('message:group', ({ recipientId }) => { t.notOk(recipientId) })
  // @ts-expect-error a channel is missing
  await t.rejects(client.send('message:group', { message: 'x', conversationId: 'c' }), { code: 'RT_CLIENT_STOPPED' }, 'it was never started')
  t.equal(client.state, 'stopped')
  t.ok(client instanceof WebSocketClient)
})
