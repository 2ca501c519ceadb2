import { setTimeout as sleep } from 'node:timers/promises'
import type { Dialect, User } from './dialects.js'
import type { RawClient } from './raw-client.js'
import { ACK, direct } from './rows/durable.js'
import { publisherOf, Room } from './rows/fan-out.js'
import { calls, sendMany } from './rows/rest.js'
import { JWT_SECRET } from './servers.js'
import { settle } from './settle.js'

/** A load that can be put on a server in short blocks. */
export interface Probe {
  unit: string
  overRedis?: boolean
  start (dialect: Dialect, env: Record<string, string>): Promise<Load>
}

interface Load {
  /** The server's cost of one unit of work in this block; less is better. */
  block (): Promise<number>
  stop (): Promise<void>
}

const AT_ONCE = 50
const SECONDS = 1

const connect: Probe = {
  unit: 'µs CPU per handshake and close',
  start: async (dialect, env) => {
    const server = await dialect.start({ JWT_SECRET, ...env })
    let next = 0
    const open = async (count: number): Promise<void> => {
      for (let at = 0; at < count; at += AT_ONCE) {
        const clients = await Promise.all(Array.from({ length: AT_ONCE }, async () => {
          const user = { id: ++next, club: next }
          return await dialect.open(server.port, user)
        }))
        for (const client of clients) client.close()
      }
      await sleep(100)
    }
    await open(8000)
    let before = server.cpu()
    return {
      // From the end of the last block: users who left then were told offline since.
      block: async () => {
        await open(2000)
        const used = server.cpu() - before
        before += used
        return used / 2000
      },
      stop: server.stop
    }
  }
}

const directMessages: Probe = {
  unit: 'µs CPU of the node per acked message',
  start: async (dialect, env) => {
    const server = await dialect.start({ JWT_SECRET, ...env })
    let acked = 0
    let running = false
    const senders: Array<{ client: RawClient, frame: Buffer }> = []
    const clients: RawClient[] = []
    for (let i = 0; i < 200; i++) {
      const club = 1 + Math.floor(i / 25)
      const [client, receiver] = await Promise.all([dialect.open(server.port, { id: 1 + 2 * i, club }), dialect.open(server.port, { id: 2 + 2 * i, club })])
      const frame = direct(2 + 2 * i)
      client.onFrame = (payload) => {
        if (payload.compare(ACK, 0, ACK.length, 0, ACK.length) !== 0) return
        acked++
        if (running) client.send(frame)
      }
      senders.push({ client, frame })
      clients.push(client, receiver)
    }
    return {
      block: async () => {
        const [from, before] = [acked, server.cpu()]
        running = true
        for (const { client, frame } of senders) client.send(frame)
        await sleep(SECONDS * 1000)
        running = false
        await sleep(200)
        const used = (server.cpu() - before) / (acked - from)
        await settle(env.DATABASE_URL ?? '')
        return used
      },
      stop: async () => {
        for (const client of clients) client.close()
        await server.stop()
      }
    }
  }
}

const fanOut = ({ members, publishers, inFlight }: { members: number, publishers: number, inFlight: number }): Probe => ({
  unit: 'µs CPU per delivery',
  start: async (dialect, env) => {
    const server = await dialect.start({ JWT_SECRET, ...env })
    const room = new Room(dialect)
    await room.fill(server.port, members)
    const senders = await Promise.all(Array.from({ length: publishers }, async (_, i) => await dialect.open(server.port, publisherOf(i))))
    const frame = dialect.message('x'.repeat(128))
    let [running, sent] = [false, 0]
    const more = (): void => {
      while (running && room.delivered >= (sent - inFlight * publishers + 1) * members) senders[sent++ % publishers]?.send(frame)
    }
    room.watch(more)
    return {
      block: async () => {
        const [from, before] = [room.delivered, server.cpu()]
        running = true
        more()
        await sleep(SECONDS * 1000)
        running = false
        await sleep(300)
        return (server.cpu() - before) / (room.delivered - from)
      },
      stop: async () => {
        room.close()
        for (const sender of senders) sender.close()
        await server.stop()
      }
    }
  }
})

/** More users than a limit per user stops in a round. */
const anyone = (): User => {
  const id = 1 + Math.floor(Math.random() * 10_000)
  return { id, club: 1 + Math.floor(id / 100) }
}

const rest = (call: typeof calls[keyof typeof calls], online: number): Probe => ({
  unit: 'µs CPU per request',
  start: async (dialect, env) => {
    const server = await dialect.start({ JWT_SECRET, ...env })
    const clients: RawClient[] = []
    for (let i = 0; i < online; i++) clients.push(await dialect.open(server.port, { id: 1 + i, club: 1 + Math.floor(i / 100) }))
    let before = server.cpu()
    return {
      // From the end of the last block: typing has stopped since, and audit rows were written.
      block: async () => {
        await sendMany(server.port, call, 4000, online > 0 ? undefined : anyone)
        const used = server.cpu() - before
        before += used
        return used / 4000
      },
      stop: async () => {
        for (const client of clients) client.close()
        await server.stop()
      }
    }
  }
})

export const probes: Record<string, Probe> = {
  'connect': connect,
  'connect over Redis': { ...connect, overRedis: true },
  'direct messages, durable': directMessages,
  'fan-out under load': fanOut({ members: 300, publishers: 2, inFlight: 8 }),
  'fan-out, one at a time': fanOut({ members: 300, publishers: 1, inFlight: 1 }),
  'REST: presence update': rest(calls['presence update'], 0),
  'REST: typing': rest(calls.typing, 0),
  'REST: online list': rest(calls['online list'], 400)
}
