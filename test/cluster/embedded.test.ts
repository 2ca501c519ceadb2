import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import { WebSocket } from 'ws'
import { channels, connections, realtime, type Authorize } from '../../plugins/index.js'
import { Client } from './client.js'
import { until } from './until.js'

const PING = 500

/** A host in this process, for what only its own code can see. */
async function startApp (t: { teardown (task: () => Promise<void>): void }, authorize: Authorize) {
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(async () => { await app.close() })
  await app.register(realtime, {
    database: 'sqlite::memory:', authConcurrency: 100, authenticate: ({ token }) => token === undefined ? null : { tenantId: 1, userId: 1 }, authorize
  })
  await app.register(connections, { pingInterval: PING, framesPerSecond: 0 })
  await app.register(channels)
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, url, wsUrl: `${url.replace('http', 'ws')}/api/websocket/ws` }
}

t.test('authorisations of many channels after a reconnect run in parallel, and never too many', async (t) => {
  let running = 0
  let most = 0
  const target = await startApp(t, async () => {
    most = Math.max(most, ++running)
    await sleep(100)
    running--
    return true
  })
  const names = Array.from({ length: 40 }, (_, i) => `group.${i}`)

  await t.test('40 channels of one connection take a few times as long as one', async (t) => {
    const client = await Client.connect(target, { userId: 1 })
    const began = Date.now()
    await Promise.all(names.map(async (channel) => await client.request('subscribe', { channel })))
    t.comment(`${Date.now() - began} ms`)
    t.ok(Date.now() - began < 1500, `${Date.now() - began} ms`)
    client.terminate()
  })

  await t.test('for 50 connections that return at once, no more host functions than the limit run at a time', async (t) => {
    most = 0
    const clients = await Promise.all(Array.from({ length: 20 }, async () => await Client.connect(target, { userId: 1 })))
    await Promise.all(clients.map(async (client) => await client.request('subscribe', { channel: 'group.1' })))
    t.equal(most, 10)
    for (const client of clients) client.terminate()
  })
})

t.test('a slowed background tab stays connected: the server pings, and the browser responds', async (t) => {
  const { app, wsUrl } = await startApp(t, () => true)
  const open = async (autoPong: boolean): Promise<WebSocket> => {
    const socket = new WebSocket(wsUrl, { autoPong, headers: { authorization: 'Bearer x' } })
    await once(socket, 'message')
    return socket
  }
  const [quiet, dead] = await Promise.all([open(true), open(false)])
  let pings = 0
  quiet.on('ping', () => { pings++ })
  await once(dead, 'close')
  t.ok(pings >= 2, `${pings} pings`)
  await until('more pings', 5000, () => pings >= 5)
  t.equal(quiet.readyState, WebSocket.OPEN)
  t.equal(app.realtime.connections.size, 1)
  quiet.terminate()
})
