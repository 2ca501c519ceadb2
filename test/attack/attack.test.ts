import { once } from 'node:events'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { internalsOf } from '../../lib/internals.js'
import { TestClient } from '../../lib/testing/client.js'
import { allowAll, buildHost, PREFIX, tokenOf, user, userOn, type Backend, type Host } from '../helper.js'
import { rest, withIds } from '../../plugins/schemas.js'
import { toStrings } from '../string-ids.js'
import { Chance } from './chance.js'
import { hostileMessage, hostileRequest, MARK, type HostileRequest, type Route } from './generator.js'

/** Frames of the attackers, by all of them; `npm run test:attack` sends many more. */
const FRAMES = Number(process.env.ATTACK_FRAMES ?? 4000)
const SEED = Number(process.env.ATTACK_SEED ?? 1)
const ATTACKERS = 8
/** Streams of an attacker that are open at once. */
const STREAMS = 3
/** Frames that an attacker sends before it looks whether its socket is still there. */
const BATCH = 40

const backends: Backend[] = ['embedded', 'servers', 'embedded with string ids']

for (const backend of backends) {
  void t.test(`${backend}: whatever one tenant sends, another one does not notice`, { timeout: 3600_000 }, async (t) => { await attack(t, backend) })
}

async function attack (t: Test, backend: Backend): Promise<void> {
  const problems: unknown[] = []
  const note = (problem: unknown): void => { problems.push(problem) }
  for (const event of ['unhandledRejection', 'uncaughtExceptionMonitor'] as const) {
    process.on(event, note)
    t.teardown(() => { process.off(event, note) })
  }
  const host = await buildHost(t, {
    backend,
    options: { ...allowAll, requestsPerMinute: 0 },
    connections: { framesPerSecond: 0 },
    channels: { messagesPerMinute: 0, recipientsPerMinute: 0 },
    presence: { updatesPerMinute: 0 },
    typing: { signsPerMinute: 0 },
    before: (app) => {
      for (const level of ['error', 'fatal'] as const) app.log[level] = ((...args: unknown[]) => { note([level, ...args]) })
    }
  })
  const innocent = await innocentPair(host, backend)
  const counts = new Map<string, number>()
  const count = (name: string): void => { counts.set(name, (counts.get(name) ?? 0) + 1) }
  let isOver = false
  const watching = innocent.watch(() => isOver)
  await Promise.all(Array.from({ length: ATTACKERS }, async (_, i) => {
    await attacker(host, tokenOf(userOn(backend, 1 + i % 3)), new Chance(SEED * 1000 + i), count, note)
  }))
  isOver = true
  const times = (await watching).sort((a, b) => a - b)
  t.strictSame(problems, [], 'no error, no unhandled rejection, no 5xx')
  t.strictSame(innocent.foreign(), [], 'no foreign byte')
  t.ok(times.length > 0)
  t.match((await host.app.inject({ url: `${PREFIX}/stats`, headers: { authorization: `Bearer ${tokenOf(userOn(backend, 1))}` } })).statusCode, 200)
  t.comment(`${JSON.stringify(Object.fromEntries(counts))}; ${times.length} innocent messages, median ${times[times.length >> 1]?.toFixed(1)} ms, p99 ${times[Math.floor(times.length * 0.99)]?.toFixed(1)} ms`)
}

async function attacker (host: Host, token: string, chance: Chance, count: (name: string) => void, note: (problem: unknown) => void): Promise<void> {
  const events = internalsOf(host.app).frames.catalogue.filter(({ direction }) => direction === 'client')
  const { kind } = internalsOf(host.app).ids
  const routes = Object.entries(rest).map(([route, schemas]): Route => {
    const [method = '', path = ''] = route.split(' ')
    return { method, path: PREFIX + path, ...withIds(schemas, kind) }
  })
  const streams: AbortController[] = []
  let socket: WebSocket | null = null
  for (let sent = 0; sent < FRAMES / ATTACKERS;) {
    if (socket === null || socket.readyState !== WebSocket.OPEN) {
      socket = await openAs(host, token, note)
      count('sockets')
    }
    for (let i = 0; i < BATCH; i++, sent++) {
      const { fragments, isBinary } = hostileMessage(events, chance)
      fragments.forEach((fragment, n) => { socket?.send(fragment, { binary: isBinary, fin: n === fragments.length - 1 }) })
    }
    await settled(socket)
    for (let i = 0; i < 4; i++) {
      const request = hostileRequest(routes, events, token, chance)
      if (new URL(request.url, host.url).pathname === `${PREFIX}/stream`) {
        count(`stream ${await openStream(host, request, streams, note)}`)
        continue
      }
      const { statusCode, body } = await host.app.inject(request)
      count(`status ${statusCode}`)
      if (statusCode >= 500 && statusCode !== 503) note([statusCode, request, body])
    }
    if (chance.is(0.3)) {
      const name = `s${chance.below(STREAMS)}`
      await openStream(host, { url: `${PREFIX}/stream?connection_id=${name}&channels=group.1,user:me`, headers: { authorization: `Bearer ${token}` } }, streams, note)
    }
  }
  for (const stream of streams) stream.abort()
  socket?.terminate()
}

/** A stream that is read as long as others have not taken its place. Its status. */
async function openStream (host: Host, { url, headers }: Pick<HostileRequest, 'url' | 'headers'>, open: AbortController[], note: (problem: unknown) => void): Promise<number> {
  const controller = new AbortController()
  const response = await fetch(host.url + url, { headers, signal: controller.signal })
  const { status } = response
  if (status >= 500 && status !== 503) note([status, url])
  if (status === 200 && open.push(controller) > STREAMS) open.shift()?.abort()
  const decoder = new TextDecoder()
  void response.body?.pipeTo(new WritableStream({
    write: (bytes) => { if (decoder.decode(bytes).includes('RT_INTERNAL')) note(['stream', decoder.decode(bytes)]) }
  })).catch(() => {})
  return status
}

async function openAs (host: Host, token: string, note: (problem: unknown) => void): Promise<WebSocket> {
  const socket = new WebSocket(`${host.url.replace(/^http/, 'ws')}${PREFIX}/ws`, { headers: { authorization: `Bearer ${token}` } })
  socket.on('error', () => {})
  socket.on('message', (data: Buffer) => { if (data.includes('RT_INTERNAL')) note(data.toString()) })
  await once(socket, 'open')
  return socket
}

/** Everything that was sent is answered, or the socket is closed. */
async function settled (socket: WebSocket): Promise<void> {
  const closed = new Promise((resolve) => { socket.once('close', resolve) })
  const answered = new Promise((resolve) => {
    socket.on('message', function listener (data: Buffer) {
      if (!data.includes('"id":"settled"')) return
      socket.off('message', listener)
      resolve(null)
    })
  })
  if (socket.readyState !== WebSocket.OPEN) return
  socket.send('{"event":"ping","id":"settled"}')
  await Promise.race([closed, answered])
}

interface Innocent {
  /** Sends message after message, each of which must arrive; their times in milliseconds. */
  watch (isOver: () => boolean): Promise<number[]>
  /** What the pair got that is none of their tenant's. */
  foreign (): string[]
}

/** Two users of another tenant, who write to each other. */
async function innocentPair (host: Host, backend: Backend): Promise<Innocent> {
  const seen: string[] = []
  const client = async (userId: number): Promise<TestClient> => {
    const identity = { ...user(userId), tenantId: 2 }
    const token = tokenOf(backend.endsWith('string ids') ? toStrings(identity) : identity)
    const found = new TestClient(new WebSocket(`${host.url.replace(/^http/, 'ws')}${PREFIX}/ws`, { headers: { authorization: `Bearer ${token}` } }))
    found.socket.on('message', (data: Buffer) => { if (data.includes(MARK) || /"user:typing"/.test(data.toString())) seen.push(data.toString()) })
    await found.next('authenticated')
    await found.request('subscribe', { channel: 'group.1' })
    return found
  }
  const [ann, ben] = [await client(1), await client(2)]
  return {
    foreign: () => seen,
    watch: async (isOver) => {
      const times: number[] = []
      for (let i = 0; !isOver(); i++) {
        const began = performance.now()
        const [{ messageId }] = await Promise.all([
          ann.request('message:group', { channel: 'group.1', message: `${i}`, conversationId: 'c' }),
          ben.next('message:group', ({ message }: { message: string }) => message === `${i}`)
        ]) as [{ messageId: number }, unknown]
        if (!(messageId > 0)) throw new Error('no message')
        times.push(performance.now() - began)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      return times
    }
  }
}
