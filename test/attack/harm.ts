import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import { WebSocket } from 'ws'
import { channels, connections, openDatabase, realtime } from '../../plugins/index.js'
import { bundle } from '../bundle.js'
import { Client, tokenOf, type Who } from '../cluster/client.js'
import { startCluster, type Cluster, type Node } from '../cluster/cluster.js'

/**
 * What one person can do to a node and to other tenants, measured on two example hosts with their default limits:
 * `npm run test:harm`. MINUTES is how long the hostile member continues, 10 unless given; ONLY=pongs,hostile measures these alone;
 * HARM_HOST measures another bundled host. The generator runs on the same cores as the nodes: the other tenant's times include that.
 */
const MINUTES = Number(process.env.MINUTES ?? 10)
const LIMITS = { FRAMES_PER_SECOND: '30', MESSAGES_PER_MINUTE: '3000', RECIPIENTS_PER_MINUTE: '10000' }
const NO_SUMS = { ...LIMITS, MESSAGES_PER_MINUTE: '0', RECIPIENTS_PER_MINUTE: '0' }
const HOSTILE: Who = { userId: 1, clubId: 1 }

process.env.BUNDLED_HOST = process.env.HARM_HOST ?? (await bundle()).host

/** By name, each on two fresh nodes with these settings. */
const measures: Record<string, [env: Record<string, string>, measure: (cluster: Cluster) => Promise<void>]> = {
  replays: [LIMITS, repeatedReplays],
  live: [LIMITS, liveBesideReplay],
  notifications: [LIMITS, async ({ nodes: [node] }) => { await notifications(node as Node, 'default limits') }],
  unlimited: [NO_SUMS, async ({ nodes: [node] }) => { await notifications(node as Node, 'frame rate alone') }],
  backlog: [NO_SUMS, backlogOfAbsent],
  reads: [LIMITS, async ({ nodes: [node] }) => { await costlyReads(node as Node) }],
  pongs: [LIMITS, async ({ nodes: [node] }) => { await pongs(node as Node) }],
  hostile: [LIMITS, hostileMember]
}
const only = process.env.ONLY?.split(',') ?? Object.keys(measures)
for (const [name, [env, measure]] of Object.entries(measures)) if (only.includes(name)) await onCluster(env, measure)
process.exit(0)

async function onCluster (env: Record<string, string>, measure: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await startCluster([{ env }, { env }])
  try {
    await measure(cluster)
  } finally {
    await cluster.stop()
  }
}

/** A connection asks again and again for a channel's 5 MB and reads nothing. */
async function repeatedReplays ({ nodes }: Cluster): Promise<void> {
  const [node] = nodes as [Node]
  await fill(node, 1000)
  const before = memory(node)
  const reader = await Client.connect(node, HOSTILE)
  reader.pause()
  let sent = 0
  const watching = peak(node, 45_000, () => reader.isClosed)
  for (; sent < 1400 && !reader.isClosed; sent++) {
    reader.send('subscribe', { channel: 'group.full', since: 0 })
    if (sent % 30 === 29) await sleep(1000) // the frame rate
  }
  report('replays asked for and not read', `+${megabytes(await watching - before)} for ${sent} frames`)
  reader.terminate()
}

/** A replay that is not read, in a channel to which 25 MB of live frames come. */
async function liveBesideReplay ({ nodes }: Cluster): Promise<void> {
  const [node] = nodes as [Node]
  await fill(node, 1000)
  const reader = await Client.connect(node, HOSTILE)
  reader.pause()
  reader.send('subscribe', { channel: 'group.full', since: 0 })
  await sleep(500)
  const before = memory(node)
  let isOver = false
  const watching = peak(node, 600_000, () => isOver)
  await fill(node, 5000)
  isOver = true
  report('25 MB of live frames beside a replay that is not read', `+${megabytes(await watching - before)}`)
  reader.terminate()
}

/** 5 connections of a member notify 500 others at the frame rate; another tenant's acks meanwhile. */
async function notifications (node: Node, limits: string): Promise<void> {
  const ann = await Client.connect(node, { userId: 1, clubId: 2 })
  ann.keep = false
  await acks(ann, 100)
  const quiet = await acks(ann, 200)
  const clients = await Promise.all(Array.from({ length: 5 }, async () => await Client.connect(node, HOSTILE)))
  const recipientIds = Array.from({ length: 500 }, (_, i) => 1000 + i)
  const refusals = new Map<string, number>()
  const timers = clients.map((client) => {
    client.keep = false
    return setInterval(() => {
      client.request('notification:send', { recipientIds, title: 't', body: 'b' }).catch(({ code = 'none' }: { code?: string }) => {
        refusals.set(code, (refusals.get(code) ?? 0) + 1)
      })
    }, 1000 / 30)
  })
  await sleep(2000)
  const during = await acks(ann, 300)
  for (const timer of timers) clearInterval(timer)
  reportAcks(`notifications to 500, ${limits}`, during, quiet, `refused ${JSON.stringify(Object.fromEntries(refusals))}`)
  for (const client of [...clients, ann]) client.terminate()
}

/** Notifications wait for 190,000 users who are away; then a host of another tenant publishes in its own transactions. */
async function backlogOfAbsent ({ nodes: [node], mariadb, redis, rows }: Cluster): Promise<void> {
  const database = openDatabase(mariadb.url)
  const app = Fastify()
  await app.register(realtime, { database: database.db, redis: redis.url, authenticate: () => null })
  await app.register(connections)
  await app.register(channels)
  await app.ready()
  const reader = await Client.connect(node as Node, { userId: 1, clubId: 2 })
  await reader.request('subscribe', { channel: 'group.orders' })
  const publish = async (count: number): Promise<number[]> => {
    const times: number[] = []
    for (let i = 0; i < count; i++) {
      await database.db.transaction().execute(async (transaction) => {
        await app.realtime.channels.publish({ tenantId: 2, channel: 'group.orders', event: 'order:placed', data: { i }, transaction })
      })
      const committed = performance.now()
      await reader.next('order:placed', 60_000, ({ i: n }) => n === i)
      times.push(performance.now() - committed)
      await sleep(100)
    }
    return times.sort((a, b) => a - b)
  }
  const quiet = await publish(20)
  const clients = await Promise.all(Array.from({ length: 5 }, async () => await Client.connect(node as Node, HOSTILE)))
  const waiting = async (): Promise<number> => Number((await rows("select count(*) as n from websocket_events where status = 'pending'"))[0]?.n)
  for (let sent = 0; sent < 190_000;) {
    await Promise.all(clients.map(async (client) => {
      const recipientIds = Array.from({ length: 500 }, (_, i) => 1000 + (sent + i) % 1_000_000)
      sent += 500
      await client.request('notification:send', { recipientIds, title: 't', body: 'b' }).catch(() => { sent -= 500 })
    }))
    await sleep(1000 / 30)
  }
  const pending = await waiting()
  const during = await publish(40)
  const figure = (times: number[]): string => `median ${(times[Math.floor(times.length / 2)] ?? NaN).toFixed()} ms, most ${(times.at(-1) ?? NaN).toFixed()} ms`
  report('published in another tenant’s transaction, from the commit', `${figure(during)} behind ${pending} pending rows; before: ${figure(quiet)}`)
  await app.close()
  await database.close()
}

/** 20 connections of a member read what is dear to find, at the frame rate; another tenant's acks meanwhile. */
async function costlyReads (node: Node): Promise<void> {
  await fill(node, 5000, 'hi')
  const ann = await Client.connect(node, { userId: 1, clubId: 2 })
  ann.keep = false
  await acks(ann, 100)
  const quiet = await acks(ann, 200)
  const questions: Array<[what: string, event: string, data: object]> = [
    ['history by a label that no message has', 'history', { channel: 'group.full', conversationId: 'none', limit: 200 }],
    ['the longest page of a history', 'history', { channel: 'group.full', limit: 200 }],
    ['read marks', 'conversation:read', { channel: 'group.full', messageId: 1 }]
  ]
  for (const [what, event, data] of questions) {
    const clients = await Promise.all(Array.from({ length: 20 }, async () => await Client.connect(node, HOSTILE)))
    let answers = 0
    const timers = clients.map((client) => {
      client.keep = false
      return setInterval(() => { client.request(event, data).then(() => { answers++ }, () => {}) }, 1000 / 30)
    })
    await sleep(2000)
    const during = await acks(ann, 300)
    for (const timer of timers) clearInterval(timer)
    reportAcks(`20 connections: ${what}`, during, quiet, `${answers} answers`)
    for (const client of clients) client.terminate()
    await sleep(2000)
  }
  ann.terminate()
}

/** Pongs at full speed on a socket that never authenticates. */
async function pongs (node: Node): Promise<void> {
  const socket = new WebSocket(node.wsUrl)
  await new Promise((resolve) => socket.once('open', resolve))
  let isClosed = false
  socket.once('close', () => { isClosed = true }).on('error', () => {})
  const began = performance.now()
  const before = cpu(node)
  let sent = 0
  while (!isClosed && performance.now() - began < 5000) {
    for (let i = 0; i < 500 && !isClosed; i++, sent++) socket.pong('', true, () => {})
    await new Promise((resolve) => setImmediate(resolve))
  }
  const took = performance.now() - began
  report('pongs at full speed, without authentication', `${(cpu(node) - before).toFixed()} ms of the node’s processor time; closed after ${took.toFixed()} ms and ${sent} pongs`)
  socket.terminate()
}

/** A member with five sockets, a stream and REST does whatever leaves something behind, at the frame rate. */
async function hostileMember ({ nodes, rows, keys }: Cluster): Promise<void> {
  const until = Date.now() + MINUTES * 60_000
  let n = 0
  let requests = 0
  const before = nodes.map(memory)
  const own: number[] = []
  const clients = await Promise.all(Array.from({ length: 5 }, async (_, i) => await Client.connect(nodes[i % 2] as Node, HOSTILE)))
  while (Date.now() < until) {
    for (const [i, client] of clients.entries()) {
      if (client.isClosed) clients[i] = await Client.connect(nodes[i % 2] as Node, HOSTILE).catch(() => client)
      client.keep = false
      const all = n % 2 === 0 ? frames(n) : later(n, own)
      for (const [event, data] of all) client.send(event, data)
      client.request('message:direct', { recipientId: 1, message: 'mine', conversationId: 'c' }).then((ack) => {
        if (own.push((ack as { messageId: number }).messageId) > 50) own.shift()
      }, () => {})
      n++
    }
    void Promise.all(asked(n).map(async ([method, path, body]) => {
      requests++
      await ask(nodes[n % 2] as Node, method, path, body).catch(() => {})
    }))
    await sleep(1000 / 5)
  }
  const tables = (await rows("select table_name as name from information_schema.tables where table_schema = database() and table_name like 'websocket%'")).map(({ name }) => String(name))
  const [pending] = await rows("select count(*) as n from websocket_events where status = 'pending'")
  const counts = await Promise.all(tables.map(async (table) => `${table} ${String((await rows(`select count(*) as n from ${table}`))[0]?.n)}`))
  const after = nodes.map(memory)
  for (const client of clients) client.terminate()
  await sleep(40_000)
  const soon = await kindsOfKeys(keys)
  report('Redis keys 40 s after it left', soon)
  await sleep(110_000)
  report('Redis keys 150 s after it left', await kindsOfKeys(keys))
  report(`${MINUTES} minutes of a hostile member`, `${n * 7} frames, ${requests} requests; rows: ${counts.join(', ')} (pending: ${String(pending?.n)}); memory ${after.map((bytes, i) => `+${megabytes(bytes - (before[i] ?? 0))}`).join(', ')}`)
}

/** The keys by what they are for: how many, how many of them never expire, and the longest time until one does. */
async function kindsOfKeys (keys: Redis): Promise<string> {
  const kinds = new Map<string, { count: number, lasting: number, longest: number }>()
  for await (const batch of keys.scanStream({ count: 1000 }) as AsyncIterable<string[]>) {
    const pipeline = keys.pipeline()
    for (const key of batch) pipeline.pttl(key)
    const ttls = await pipeline.exec() ?? []
    batch.forEach((key, i) => {
      // Without the prefix, and without what distinguishes users, channels and windows.
      const kind = key.replace(/^rt:[^:]+:\d+:/, '').replace(/made-up-[\d]+|stream-\d+|[0-9a-f]{8}-[0-9a-f-]+/g, '*').replace(/\d+/g, '#')
      const ttl = Number(ttls[i]?.[1])
      const known = kinds.get(kind) ?? { count: 0, lasting: 0, longest: 0 }
      kinds.set(kind, { count: known.count + 1, lasting: known.lasting + (ttl === -1 ? 1 : 0), longest: Math.max(known.longest, ttl / 1000) })
    })
  }
  const all = [...kinds].sort(([, a], [, b]) => b.count - a.count)
  const total = all.reduce((sum, [, { count }]) => sum + count, 0)
  return `${total}: ${all.map(([kind, { count, lasting, longest }]) => `${count} ${kind} (${lasting} without expiry, longest ${longest.toFixed()} s)`).join('; ')}`
}

/** Conversations, watches and marks of users and messages that do not exist, or are their own. */
function later (n: number, own: readonly number[]): Array<[string, object]> {
  const id = own[n % Math.max(own.length, 1)] ?? n
  return [
    ['conversation:read', { with: 100_000 + n, messageId: 9e9 + n }],
    ['conversation:read', { with: 1, messageId: id }],
    ['message:edit', { messageId: id, message: `changed ${n}` }],
    ['message:delete', { messageId: n % 3 === 0 ? id : n }],
    ['presence:watch', { userIds: Array.from({ length: 500 }, (_, i) => 10_000 + n * 500 + i) }],
    [n % 3 === 0 ? 'presence:unwatch' : 'history', n % 3 === 0 ? {} : { with: 100_000 + n, conversationId: `c${n}` }]
  ]
}

/** By REST: connections without a socket, a stream, frames for made-up streams, and confirmations of made-up messages. */
function asked (n: number): Array<[string, string, object?]> {
  return [
    ['POST', '/connect', { connection_id: `made-up-${n}` }],
    ['POST', '/subscribe', { connection_id: `made-up-${n}`, channel: `group.${n}` }],
    ['GET', `/stream?channels=group.${n},group.${n + 1}&connection_id=stream-${n % 30}`],
    ['POST', '/frames', { connection_id: `stream-${(n + 29) % 30}`, frames: Array.from({ length: 5 }, (_, i) => ({ event: 'subscribe', data: { channel: `group.${n}.${i}` } })) }],
    ['POST', '/frames', { connection_id: `never-${n}`, frames: [{ event: 'ping' }] }],
    ['POST', '/messages/delivered', { message_ids: Array.from({ length: 500 }, (_, i) => n * 500 + i) }],
    ['POST', '/presence/update', { status: n % 3 === 0 ? 'invisible' : 'online', data: { n } }]
  ]
}

/** Streams are left after a second. */
async function ask (node: Node, method: string, path: string, body?: object): Promise<void> {
  const response = await fetch(`${node.url}/api/websocket${path}`, {
    method,
    headers: { authorization: `Bearer ${tokenOf(HOSTILE)}`, ...body === undefined ? {} : { 'content-type': 'application/json' } },
    ...body === undefined ? {} : { body: JSON.stringify(body) },
    signal: AbortSignal.timeout(1000)
  })
  await response.text()
}

function frames (n: number): Array<[string, object]> {
  return [
    ['user:typing', { conversationId: `c${n}`, channel: `group.${n}`, isTyping: true }],
    ['subscribe', { channel: `group.${n}` }],
    ['unsubscribe', { channel: `group.${n - 1}` }],
    ['user:presence', { status: n % 2 === 0 ? 'busy' : 'online', device: 'web' }],
    ['message:direct', { recipientId: 1000 + n, message: 'x'.repeat(100), conversationId: `c${n}` }],
    ['notification:send', { recipientIds: Array.from({ length: 500 }, (_, i) => 10_000 + (n * 500 + i) % 100_000), title: 't', body: 'b' }]
  ]
}

/** Messages of 5 KB into `group.full`, by users who each stay below their rate. */
async function fill (node: Node, count: number, message = 'x'.repeat(4900)): Promise<void> {
  const senders = await Promise.all(Array.from({ length: 20 }, async (_, i) => await Client.connect(node, { userId: 100 + i, clubId: 1 })))
  let left = count
  await Promise.all(senders.map(async (sender) => {
    sender.keep = false
    while (left-- > 0) {
      await sender.request('message:group', { channel: 'group.full', message, conversationId: 'c' }).catch(() => {})
      await sleep(40)
    }
    sender.terminate()
  }))
}

interface Acks { within: string, p50: string, p99: string }

async function acks (client: Client, count: number): Promise<Acks> {
  const times = await Promise.all(Array.from({ length: count }, async (_, i) => {
    await sleep(i * 50)
    const began = performance.now()
    await client.request('message:group', { channel: 'group.x', message: `${i}`, conversationId: 'c' }).catch(() => {})
    return performance.now() - began
  }))
  times.sort((a, b) => a - b)
  const at = (share: number): string => (times[Math.floor(count * share)] ?? NaN).toFixed(1)
  return { within: (100 * times.filter((ms) => ms <= 1000).length / count).toFixed(), p50: at(0.5), p99: at(0.99) }
}

/** The most memory of a node, looked at often, until `ms` or `isOver`. */
async function peak (node: Node, ms: number, isOver: () => boolean): Promise<number> {
  let most = 0
  for (const until = Date.now() + ms; Date.now() < until && !isOver();) {
    most = Math.max(most, memory(node))
    await sleep(100)
  }
  return most
}

function memory ({ pid }: Node): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}

/** Milliseconds of a node's threads. */
function cpu ({ pid }: Node): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
}

function reportAcks (what: string, during: Acks, quiet: Acks, besides: string): void {
  report(`${what}: another tenant’s acks`, `${during.within} % within 1 s, p50 ${during.p50} ms (quiet ${quiet.p50}), p99 ${during.p99} ms (quiet ${quiet.p99}); ${besides}`)
}

function megabytes (bytes: number): string {
  return `${(bytes / 1e6).toFixed()} MB`
}

function report (what: string, figure: string): void {
  console.log(`${what.padEnd(70)} ${figure}`)
}
