import { setTimeout as sleep } from 'node:timers/promises'
import { realtime } from '../dialects.js'
import { frameOf, type RawClient } from '../raw-client.js'

const AT_ONCE = 50
/** Handshakes before the measurement, until the code is compiled; in tenants of their own. */
const WARM_UP = 3000
/** Users that one connection watches. */
const WATCHED = 500
const WATCHERS_OF_EACH = 20
const FIRST_WATCHER = 1_000_000
/** Users in all, at least. */
const LEAST = 2000

interface Arrival {
  /** Microseconds of the server's processor time for each user who came online. */
  cpu: number
  /** Frames that announced a user, per user. */
  frames: number
}

/** So many users of a tenant come online, each watched by 20 others; in as many tenants, one after the other, as it takes for a figure. */
export async function arrivals ({ users, everyone }: { users: number, everyone?: string }, env: Record<string, string>): Promise<Arrival> {
  const server = await realtime.start({ ...everyone === undefined ? {} : { PRESENCE_EVERYONE: everyone }, ...env })
  const clients: RawClient[] = []
  const tenants = Math.ceil(LEAST / users)
  try {
    await inBatches(WARM_UP, async (i) => { (await realtime.open(server.port, { id: 1, club: 1000 + i })).close() })
    for (let club = 1; club <= tenants; club++) await watch(club)
    await sleep(1500)
    let frames = 0
    const count = (client: RawClient): void => { client.onFrame = (payload) => { if (payload.subarray(0, 15).equals(CHANGE)) frames++ } }
    for (const client of clients) count(client)
    const before = server.cpu()
    for (let club = 1; club <= tenants; club++) {
      await inBatches(users, async (i) => {
        const client = await realtime.open(server.port, { id: 1 + i, club })
        count(client)
        clients.push(client)
      })
    }
    await sleep(1500)
    return { cpu: (server.cpu() - before) / users / tenants, frames: frames / users / tenants }
  } finally {
    for (const client of clients) client.close()
    await server.stop()
  }

  async function watch (club: number): Promise<void> {
    for (let from = 1; from <= users; from += WATCHED) {
      const userIds = Array.from({ length: Math.min(WATCHED, users - from + 1) }, (_, i) => from + i)
      for (let i = 0; i < WATCHERS_OF_EACH; i++) {
        const watcher = await realtime.open(server.port, { id: FIRST_WATCHER + clients.length, club })
        watcher.send(frameOf(JSON.stringify({ event: 'presence:watch', id: 1, data: { userIds } })))
        await watcher.next((text) => text.startsWith('{"event":"ack"'))
        clients.push(watcher)
      }
    }
  }
}

interface Coming {
  /** Microseconds of the server's processor time for each member who came and left. */
  cpu: number
  /** Frames for each member and second. */
  frames: number
}

/** So many members subscribe one channel, one after the other, and leave it. `channel`: of members that are known, or not. */
export async function members ({ count, channel }: { count: number, channel: string }, env: Record<string, string>): Promise<Coming> {
  const server = await realtime.start({ PRESENCE_EVERYONE: 'never', ...env })
  const clients: RawClient[] = []
  try {
    await inBatches(count, async (i) => { clients.push(await realtime.open(server.port, { id: 1 + i, club: 1 })) })
    const ask = async (client: RawClient, event: string, name: string): Promise<void> => {
      client.send(frameOf(JSON.stringify({ event, id: 1, data: { channel: name } })))
      await client.next((text) => text.startsWith('{"event":"ack"'))
    }
    for (const event of ['subscribe', 'unsubscribe']) await inBatches(Math.min(count, 1000), async (i) => { await ask(clients[i] as RawClient, event, `${channel}.warm`) })
    await sleep(1500)
    let frames = 0
    for (const client of clients) client.onFrame = (payload) => { if (payload.subarray(0, 18).equals(MEMBERS)) frames++ }
    const [before, began] = [server.cpu(), performance.now()]
    for (const event of ['subscribe', 'unsubscribe']) await inBatches(count, async (i) => { await ask(clients[i] as RawClient, event, channel) })
    const seconds = (performance.now() - began) / 1000
    await sleep(1500)
    return { cpu: (server.cpu() - before) / count, frames: frames / count / seconds }
  } finally {
    for (const client of clients) client.close()
    await server.stop()
  }
}

const CHANGE = Buffer.from('{"event":"user:')
const MEMBERS = Buffer.from('{"event":"channel:')

async function inBatches (count: number, task: (i: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < count; at += AT_ONCE) await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - at) }, async (_, i) => { await task(at + i) }))
}
