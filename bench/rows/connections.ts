import { setTimeout as sleep } from 'node:timers/promises'
import type { Dialect, User } from '../dialects.js'
import type { RawClient } from '../raw-client.js'
import { cpuOf, JWT_SECRET } from '../servers.js'

const AT_ONCE = 50
/** Before what is measured, until the code is compiled: a server runs for weeks. */
const WARM_UP = 10_000
/** A user of a tenant of this size, whose users receive each other's `user:online`. */
const userOf = (i: number, clubOf: number): User => ({ id: 1 + i, club: 1 + Math.floor(i / clubOf) })

/** Resident bytes of the server for each connection that is open, authenticated and quiet. */
export async function idleMemory (dialect: Dialect, { connections }: { connections: number }, env: Record<string, string>): Promise<number> {
  const server = await dialect.start({ JWT_SECRET, ...env })
  const clients: RawClient[] = []
  try {
    await open(500)
    await sleep(2000) // until what is needed once is there
    const before = server.memory()
    await open(connections)
    await sleep(10_000)
    return (server.memory() - before) / connections
  } finally {
    for (const client of clients) client.close()
    await server.stop()
  }

  async function open (count: number): Promise<void> {
    for (let at = 0; at < count; at += AT_ONCE) {
      clients.push(...await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - at) },
        async (_, i) => await dialect.open(server.port, userOf(clients.length + i, 100)))))
    }
  }
}

/** Authenticated handshakes for each second of the server's processor time; no other user is online, and each connection is closed again. */
export async function handshakes (dialect: Dialect, { count }: { count: number }, env: Record<string, string>): Promise<number> {
  return 1000 / (await handshake(dialect, { count }, env)).node
}

/** Milliseconds of processor time of node and Redis for each handshake and the close that follows. */
export async function handshakesOverRedis (dialect: Dialect, { count }: { count: number }, redis: { url: string, pid: number }): Promise<{ node: number, Redis: number }> {
  const { node, other } = await handshake(dialect, { count }, { REDIS_URL: redis.url }, redis.pid)
  return { node, Redis: other }
}

/** Milliseconds of processor time of the server, and of another process, for each handshake. */
async function handshake (dialect: Dialect, { count }: { count: number }, env: Record<string, string>, pid?: number): Promise<{ node: number, other: number }> {
  const server = await dialect.start({ JWT_SECRET, ...env })
  const used = (): [number, number] => [server.cpu(), pid === undefined ? 0 : cpuOf(pid)]
  try {
    const round = async (from: number, count: number): Promise<void> => {
      for (let at = 0; at < count; at += AT_ONCE) {
        const clients = await Promise.all(Array.from({ length: AT_ONCE }, async (_, i) => await dialect.open(server.port, userOf(from + at + i, 1))))
        for (const client of clients) client.close()
      }
    }
    await round(0, WARM_UP)
    const before = used()
    await round(WARM_UP, count)
    await sleep(200)
    const after = used()
    return { node: (after[0] - before[0]) / 1000 / count, other: (after[1] - before[1]) / 1000 / count }
  } finally {
    await server.stop()
  }
}
