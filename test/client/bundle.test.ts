import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import t from 'tap'
import { WebSocketClient } from '../../client/src/index.js'

/** Bytes. */
const MOST = 9 * 1024

t.test('a page gets at most 9 KB, and nothing of the server', async (t) => {
  await promisify(execFile)(process.execPath, ['client/build.js'])
  const { outputFiles: [bundle] } = await build({ entryPoints: ['client/dist/esm/index.js'], bundle: true, minify: true, format: 'esm', target: 'es2020', write: false })
  const size = gzipSync(bundle?.contents ?? '', { level: 9 }).length
  t.comment(`${size} bytes`)
  t.ok(size > 0 && size <= MOST, `${size} bytes`)
  const { metafile: { inputs } } = await build({ entryPoints: ['client/src/index.ts'], bundle: true, format: 'esm', platform: 'browser', write: false, metafile: true })
  t.strictSame(Object.keys(inputs).filter((name) => !name.startsWith('client/src/')), [])
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
