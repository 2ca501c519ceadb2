import { performance } from 'node:perf_hooks'
import { frameOf, RawClient } from '../../bench/raw-client.js'
import { answer } from './authority-calls.js'

/** Many clients in one process: they count what they see and do nothing else. */

const PATH = '/api/websocket/ws'
const CLOSE = Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])
const AT_ONCE = 100

type Sight = 'subscribed' | 'unsubscribed' | 'closed'
const seen: Record<Sight, { count: number, lastAt: number }> = { subscribed: none(), unsubscribed: none(), closed: none() }
const clients = new Set<RawClient>()
let awaited: { sight: Sight, count: number, wake: () => void } | null = null

function none (): { count: number, lastAt: number } {
  return { count: 0, lastAt: 0 }
}

function see (sight: Sight): void {
  seen[sight].count++
  seen[sight].lastAt = Date.now()
  if (awaited?.sight === sight && seen[sight].count >= awaited.count) awaited.wake()
}

/** Frames that came in one chunk: nothing here is ever so long or so much that one is cut. */
function read (client: RawClient, bytes: Buffer): void {
  for (let at = 0; at + 2 <= bytes.length;) {
    const short = (bytes[at + 1] ?? 0) & 127
    const [from, length] = short === 126 ? [at + 4, bytes.readUInt16BE(at + 2)] : [at + 2, short]
    if (((bytes[at] ?? 0) & 15) === 8) {
      see('closed')
      clients.delete(client)
      client.socket.end(CLOSE)
      return
    }
    const text = bytes.toString('latin1', from, from + 40)
    if (text.startsWith('{"event":"unsubscribed"')) see('unsubscribed')
    else if (text.startsWith('{"event":"subscribed"')) see('subscribed')
    at = from + length
  }
}

async function open (port: number, headers: Record<string, string>): Promise<RawClient> {
  const client = await RawClient.open(port, PATH, { headers })
  await client.next((text) => text.startsWith('{"event":"authenticated"'))
  return client
}

async function expect (sight: Sight, count: number): Promise<number> {
  if (seen[sight].count < count) {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 20_000)
      awaited = {
        sight,
        count,
        wake: () => {
          clearTimeout(timer)
          resolve()
        }
      }
    })
  }
  const { count: found, lastAt } = seen[sight]
  if (found < count) throw new Error(`${sight}: ${found} of ${count}`)
  seen[sight] = none()
  return lastAt
}

async function subscribe (channel: string): Promise<void> {
  const frame = frameOf(JSON.stringify({ event: 'subscribe', data: { channel } }))
  for (const client of clients) client.send(frame)
  await expect('subscribed', clients.size)
}

const hanging = new Set<Promise<RawClient>>()

answer({
  /** Opens connections of one user, or of as many users from the first one on. */
  open: async ({ port, count, tenant, first, users, token }: { port: number, count: number, tenant: number, first: number, users: boolean, token: string }) => {
    for (let at = 0; at < count; at += AT_ONCE) {
      const some = Array.from({ length: Math.min(AT_ONCE, count - at) }, async (_, i) =>
        await open(port, { authorization: `Bearer ${tenant}.${first + (users ? at + i : 0)}.${token}` }))
      for (const client of await Promise.all(some)) {
        clients.add(client)
        client.socket.on('data', (bytes: Buffer) => { read(client, bytes) })
      }
    }
  },
  subscribe: async (channel: string) => { await subscribe(channel) },
  expect: async (sight: Sight, count: number) => await expect(sight, count),
  leave: async () => {
    for (const client of clients) client.close()
    clients.clear()
  },
  /** Opens sockets for which `authenticate` never answers, from this address. */
  hang: async (port: number, count: number, address: string) => {
    for (let i = 0; i < count; i++) {
      const client = RawClient.open(port, PATH, { headers: { authorization: 'Bearer hangs', 'x-forwarded-for': address } })
      hanging.add(client)
    }
    await Promise.all(hanging)
  },
  release: async () => {
    for (const client of hanging) (await client).close()
    hanging.clear()
  },
  /** Milliseconds of logins one after the other, from this address. */
  logIn: async (port: number, count: number, address: string) => {
    const times: number[] = []
    for (let i = 0; i < count; i++) {
      const began = performance.now()
      const client = await open(port, { authorization: 'Bearer 3.1.t', 'x-forwarded-for': address })
      times.push(performance.now() - began)
      client.close()
    }
    return times
  }
})
