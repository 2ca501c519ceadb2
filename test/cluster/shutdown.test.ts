import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import { check } from './check.js'
import { Client, tokenOf } from './client.js'
import { clusterFor } from './cluster.js'
import { Load } from './load.js'
import { until } from './until.js'

const DEADLINE = 10_000

/** A socket that upgrades, and then neither reads nor answers. */
async function deafSocket (port: number, userId: number): Promise<{ gone: Promise<unknown> }> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(['GET /api/websocket/ws HTTP/1.1', `Host: localhost:${port}`, 'Connection: Upgrade', 'Upgrade: websocket',
    'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', `Authorization: Bearer ${tokenOf({ userId })}`, '', ''].join('\r\n'))
  await once(socket, 'data')
  socket.on('error', () => {})
  return { gone: once(socket, 'close') }
}

t.test('SIGTERM under load', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{ env: { HOST: 'localhost' } }, {}])
  let alive = [a, b]
  const load = await Load.start({ senders: [a, b], receivers: [a, b], nodes: () => alive })
  t.teardown(async () => { await load.close() })
  // `localhost` is two listeners where it has two addresses.
  const urls = (await lookup('localhost', { all: true })).map(({ address, family }) =>
    `ws://${family === 6 ? `[${address}]` : address}:${a.port}/api/websocket/ws`)
  const onLastListener = await Client.connect({ url: '', wsUrl: urls.at(-1) ?? '' }, { userId: 501 })
  await deafSocket(a.port, 502)
  await until('messages flow', 5000, () => load.acked.length > 300)

  alive = [b]
  const began = Date.now()
  const stopped = a.stop()
  const { code } = await onLastListener.closed

  await t.test('new sockets are refused while the app closes the old ones', async (t) => {
    // The deaf one keeps the process up for some seconds more.
    for (const url of urls) {
      const late = new WebSocket(url, { headers: { authorization: `Bearer ${tokenOf({ userId: 503 })}` } })
      const outcome = await Promise.race([
        once(late, 'open').then(() => 'open', () => 'refused'),
        once(late, 'close').then(() => 'refused', () => 'refused')
      ])
      t.equal(outcome, 'refused', url)
      late.terminate()
    }
    t.ok(Date.now() - began < DEADLINE)
  })

  await t.test('the process exits within 10 s of close(), although one socket never responds', async (t) => {
    t.equal(await stopped, 0, 'by itself')
    t.comment(`gone after ${Date.now() - began} ms`)
    t.ok(Date.now() - began < DEADLINE, `after ${Date.now() - began} ms`)
  })

  await t.test('all sockets get 1012, on every listener, and nothing acked is missing', async (t) => {
    t.equal(code, 1012)
    await sleep(500)
    await load.stopSending()
    t.strictSame([...new Set(load.closeCodes)], [1012])
    t.equal(load.closeCodes.length, 20, 'those of this node')
    const { problems, ...figures } = await check(cluster, load)
    t.comment(figures)
    t.strictSame(problems, [])
  })

  await t.test('no user who reconnected to the other node was reported offline', async (t) => {
    const offline = async (): Promise<number[]> => {
      const rows = await cluster.rows("select distinct user_id from websocket_events where event_type = 'user:offline' order by user_id")
      return rows.map(({ user_id: userId }) => Number(userId))
    }
    // The deaf one was cut off last; 30 s later everyone's grace is over.
    await until('those who did not come back are', 45_000, async () => (await offline()).includes(502))
    t.strictSame(await offline(), [501, 502])
  })
})
