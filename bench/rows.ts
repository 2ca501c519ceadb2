import { createDatabase } from '../test/servers.js'
import { bun, fastifyWs, floor, idleStreams, realtime, realtimeStreams, realtimeWithUuids, socketIo, ws, type Dialect } from './dialects.js'
import { acrossNodes } from './rows/across-nodes.js'
import { comingBack, comingBackToPeer, joinOfFloor, joinOfSocketIo, ROOMS } from './rows/coming-back.js'
import { handshakes, handshakesOverRedis, idleMemory } from './rows/connections.js'
import { deploy } from './rows/deploy.js'
import { conversations } from './rows/conversations.js'
import { directMessages, loneMessage, oneRowEach } from './rows/durable.js'
import { fanOut } from './rows/fan-out.js'
import { latency } from './rows/latency.js'
import { onlinePage } from './rows/online-list.js'
import { arrivals, members } from './rows/presence.js'
import { calls, ownRequests, restRequests, USERS } from './rows/rest.js'
import { resume } from './rows/resume.js'

export interface Servers {
  /** The URL of a database that grew as a deployment's does, but in which nothing waits to be tried again. */
  mariadb: { pid: number, settled (ids?: 'strings'): Promise<string> }
  redis: { url: string, pid: number }
}

/** The result of one round: a figure for each peer, by name. */
export type Figures = Record<string, number>

/** Compares `fastify-realtime` with another figure (at most, or at least, this multiple of it), or with a number. */
export interface Bar { than?: string, atMost?: number, atLeast?: number, of?: string }

export interface Row {
  name: string
  work: string
  unit: string
  bars: Bar[]
  /** Takes long and repeats well: measured in the first round alone. */
  once?: boolean
  round (servers: Servers): Promise<Figures>
}

/** The peers one after the other: none measures while another runs. */
async function each (dialects: Dialect[], measure: (dialect: Dialect) => Promise<number>): Promise<Figures> {
  const figures: Figures = {}
  for (const dialect of dialects) figures[dialect.name] = await measure(dialect)
  return figures
}

const load = { members: 500, publishers: 2, inFlight: 8, seconds: 2 }
/** fastify-realtime stores what it always does, in the database of a deployment; the peers store nothing. */
const log = async ({ name }: Dialect, mariadb: Servers['mariadb']): Promise<Record<string, string>> => name === 'fastify-realtime' ? await stored(mariadb) : {}
const stored = async (mariadb: Servers['mariadb']) => ({ DATABASE_URL: await mariadb.settled() })
const storedWithUuids = async (mariadb: Servers['mariadb']) => ({ DATABASE_URL: await mariadb.settled('strings') })

const REST_BARS = { 'presence update': 0.5, typing: 0.7, 'online list': 0.8 } as const satisfies Record<keyof typeof calls, number>

export const rows: Row[] = [
  {
    name: 'fan-out under load',
    work: '500 members, 2 publishers × 8 in flight, 128 B',
    unit: 'µs CPU per delivery',
    bars: [{ than: 'socket-io', atMost: 1 / 6 }, { than: 'bun', atMost: 1.3 }],
    round: async ({ mariadb }) => await each([socketIo, ws, bun, realtime], async (dialect) =>
      await fanOut(dialect, load, await log(dialect, mariadb)))
  },
  {
    name: 'fan-out to streams',
    work: '500 members with sockets, with server-sent events; 1 publisher sends 16 at once, and again when all have them; 128 B',
    unit: 'µs CPU per delivery',
    bars: [{ of: 'fastify-realtime, streams', than: 'fastify-realtime', atMost: 1.2 }],
    // In bursts, because what is compared must not depend on how many messages happen to share a write.
    round: async ({ mariadb }) => await each([realtime, realtimeStreams], async (dialect) =>
      await fanOut(dialect, { ...load, publishers: 1, inFlight: 16, inBursts: true }, await stored(mariadb)))
  },
  {
    name: 'idle memory of streams',
    work: '5000 connections with sockets, with server-sent events',
    unit: 'KiB',
    once: true,
    bars: [{ of: 'fastify-realtime, streams', than: 'fastify-realtime', atMost: 1.5 }],
    round: async ({ mariadb }) => await each([realtime, idleStreams], async (dialect) => await idleMemory(dialect, { connections: 5000 }, await stored(mariadb)) / 1024)
  },
  {
    name: 'fan-out, one at a time',
    work: '500 members, 1 in flight',
    unit: 'µs CPU per delivery',
    bars: [{ than: 'socket-io', atMost: 0.75 }, { than: 'ws', atMost: 1.05 }],
    round: async ({ mariadb }) => await each([socketIo, ws, bun, realtime], async (dialect) =>
      await fanOut(dialect, { ...load, publishers: 1, inFlight: 1 }, await log(dialect, mariadb)))
  },
  {
    name: 'fan-out grows',
    work: '50, 500, 5000 members, 2 publishers × 8 in flight',
    unit: 'µs CPU per delivery',
    bars: [{ of: '5000 members', than: 'bun, 5000 members', atMost: 1.3 }],
    round: async ({ mariadb }) => {
      const figures: Figures = {}
      for (const members of [50, 500, 5000]) figures[`${members} members`] = await fanOut(realtime, { ...load, members }, await log(realtime, mariadb))
      // A relay without a log: the machine's own cost with more sockets, or fewer.
      for (const members of [50, 500, 5000]) figures[`bun, ${members} members`] = await fanOut(bun, { ...load, members })
      return figures
    }
  },
  {
    name: 'across nodes',
    work: 'published on one, 500 members on the other, through Redis; MariaDB for fastify-realtime',
    unit: 'µs CPU of the receiving node per delivery',
    bars: [{ than: 'socket-io', atMost: 1 / 5 }],
    round: async (servers) => ({
      ...await each([socketIo], async (dialect) => await acrossNodes(dialect, load, { REDIS_URL: servers.redis.url })),
      ...await each([realtime], async (dialect) => await acrossNodes(dialect, load, { ...await stored(servers.mariadb), REDIS_URL: servers.redis.url }))
    })
  },
  {
    name: 'direct messages, durable',
    work: '500 pairs, acked, MariaDB',
    unit: 'acked messages per second, and the node’s own µs CPU for each',
    bars: [{ of: 'fastify-realtime, µs per message', atMost: 40 }],
    round: async ({ mariadb }) => {
      const load = { pairs: 500, seconds: 3 }
      const peer = await directMessages(oneRowEach, load, await stored(mariadb))
      const own = await directMessages(realtime, load, await stored(mariadb))
      return { 'one-row-each': peer.perSecond, 'fastify-realtime': own.perSecond, 'one-row-each, µs per message': peer.cpu, 'fastify-realtime, µs per message': own.cpu }
    }
  },
  {
    name: 'direct messages, confirmed',
    once: true,
    work: 'the same, and each recipient confirms it',
    unit: 'acked messages per second',
    bars: [],
    round: async ({ mariadb }) => ({ 'fastify-realtime': (await directMessages(realtime, { pairs: 500, seconds: 3, confirmed: true }, await stored(mariadb))).perSecond })
  },
  {
    name: 'resume',
    once: true,
    work: 'all 2000 members of 20 rooms resume at once, each after 20 missed messages',
    unit: 'ms until all have resumed',
    bars: [],
    round: async ({ mariadb }) => ({ 'fastify-realtime': await resume({ members: 2000, rooms: 20 }, await stored(mariadb)) })
  },
  {
    name: 'lone durable message',
    work: '1 in flight, MariaDB',
    unit: 'ms to the ack, median',
    bars: [{ than: 'one-row-each', atMost: 1.2 }],
    round: async ({ mariadb }) => await each([oneRowEach, realtime], async (dialect) =>
      await loneMessage(dialect, { seconds: 2 }, await stored(mariadb)))
  },
  {
    name: 'idle memory',
    work: '10,000 connections; fastify-realtime’s authenticated and present',
    once: true,
    unit: 'KiB per connection',
    bars: [{ than: 'fastify-ws', atMost: 1.25 }, { than: 'socket-io', atMost: 0.75 }],
    round: async ({ mariadb }) => await each([socketIo, fastifyWs, realtime], async (dialect) =>
      await idleMemory(dialect, { connections: 10_000 }, await log(dialect, mariadb)) / 1024)
  },
  {
    name: 'connect',
    work: 'handshakes, JWT verified',
    unit: 'handshakes per CPU second',
    bars: [{ than: 'socket-io', atLeast: 1 }],
    round: async ({ mariadb }) => await each([socketIo, realtime], async (dialect) => await handshakes(dialect, { count: 4000 }, await log(dialect, mariadb)))
  },
  {
    name: 'connect over Redis',
    work: 'handshakes: JWT verified, present, own channel; each is closed again',
    unit: 'ms CPU per user',
    bars: [{ of: 'node', atMost: 0.5 }, { of: 'Redis', atMost: 0.08 }],
    round: async ({ redis }) => {
      const [own, bare] = [await handshakesOverRedis(realtime, { count: 4000 }, redis), await handshakesOverRedis(floor, { count: 4000 }, redis)]
      return { 'node': own.node, 'Redis': own.Redis, 'floor, node': bare.node, 'floor, Redis': bare.Redis }
    }
  },
  ...[0, 3].map((missed): Row => ({
    name: missed === 0 ? 'coming back, nothing missed' : `coming back, ${missed} missed in each room`,
    once: true,
    work: `2000 users × ${ROOMS} rooms at once, to a node that does not know the rooms, after a deploy; MariaDB, Redis`,
    unit: 'ms CPU per user',
    bars: missed === 0
      ? [{ of: 'node', atMost: 1.5 }, { of: 'node', than: 'socket-io, bare', atMost: 2 }, { of: 'MariaDB', atMost: 0.2 }]
      : [{ of: 'node', atMost: 3 }, { of: 'MariaDB', atMost: 0.8 }],
    round: async ({ mariadb, redis }) => {
      const figures: Figures = {}
      if (missed === 0) {
        const [socketIos = NaN] = await comingBackToPeer(socketIo, { users: 2000, ...joinOfSocketIo })
        const [node = NaN, ofMariadb = NaN, ofRedis = NaN] = await comingBackToPeer(floor, { users: 2000, ...joinOfFloor },
          { ...await stored(mariadb), REDIS_URL: redis.url }, [mariadb.pid, redis.pid])
        Object.assign(figures, { 'socket-io, bare': socketIos, 'floor, node': node, 'floor, MariaDB': ofMariadb, 'floor, Redis': ofRedis })
      }
      return { ...figures, ...await comingBack({ users: 2000, missed }, { ...await stored(mariadb), REDIS_URL: redis.url }, [mariadb.pid, redis.pid]) }
    }
  })),
  {
    name: 'deploy',
    once: true,
    work: '5000 users × 5 rooms, two nodes, one closed and started again under 20 messages a second; MariaDB, Redis',
    unit: 'see each figure',
    bars: [{ of: 's until all are back', atMost: 20 }, { of: 'lost', atMost: 0 }, { of: 'told twice', atMost: 0 }, { of: 'told offline', atMost: 0 },
      { of: 'ms p99 on the other node', atMost: 100 }],
    round: async ({ mariadb, redis }) => ({ ...await deploy({ users: 5000, rooms: 5, rate: 20 }, { ...await stored(mariadb), REDIS_URL: redis.url }) })
  },
  ...Object.entries(calls).map(([name, call]): Row => ({
    name: `REST: ${name}`,
    work: 'beside a bare Fastify route that verifies the JWT and returns the same bytes',
    unit: 'requests per CPU second',
    bars: [{ than: 'bare', atLeast: REST_BARS[name as keyof typeof calls] }],
    // No other connection receives the events, because fan-out has rows of its own. The users of a list must be online.
    round: async ({ mariadb }) => ({ ...await restRequests(call, { count: 8000, sockets: name === 'online list' ? USERS : 0 }, await stored(mariadb)) })
  })),
  {
    name: 'online list grows',
    once: true,
    work: 'a page of 100 with 100, 10,000, 100,000 online, Redis',
    unit: 'µs CPU of node and Redis per page',
    bars: [{ of: '100000 online', than: '100 online', atMost: 1.5 }, { of: '10000 online', than: '100 online', atMost: 1.5 }],
    round: async ({ redis }) => {
      const figures: Figures = {}
      for (const online of [100, 10_000, 100_000]) figures[`${online} online`] = await onlinePage({ online, count: 1000 }, redis)
      return figures
    }
  },
  {
    name: 'presence of a large tenant',
    once: true,
    work: '200, 2000 and 10,000 users come online, each watched by 20, and changes are sent only to watchers',
    unit: 'µs CPU per user',
    bars: [{ of: '10000 users', than: '200 users', atMost: 1.3 }],
    round: async () => {
      const figures: Figures = {}
      for (const users of [200, 2000, 10_000]) {
        const { cpu, frames } = await arrivals({ users, everyone: 'never' }, {})
        Object.assign(figures, { [`${users} users`]: cpu, [`changes sent per user of ${users}`]: frames })
      }
      return figures
    }
  },
  {
    name: 'presence at the default',
    once: true,
    work: 'the same, with the default: up to 1000 users every change is sent to everyone',
    unit: 'µs CPU per user',
    bars: [{ of: '10000 users', than: '200 users, watchers only', atMost: 2 }],
    round: async () => ({
      '200 users, watchers only': (await arrivals({ users: 200, everyone: 'never' }, {})).cpu,
      '10000 users': (await arrivals({ users: 10_000 }, {})).cpu
    })
  },
  {
    name: 'members of a large room',
    once: true,
    work: '5000 subscribe and unsubscribe a channel, with a list of its members and without',
    unit: 'µs CPU per member',
    bars: [{ of: 'with a list', than: 'without', atMost: 1.5 }],
    round: async () => {
      const [without, list] = [await members({ count: 5000, channel: 'conversation.bench' }, {}), await members({ count: 5000, channel: 'group.bench' }, {})]
      return { without: without.cpu, 'with a list': list.cpu, 'frames per second and member': list.frames }
    }
  },
  {
    name: 'conversations',
    once: true,
    work: 'a log of 1,000,000 messages: a page of history, also of a peer who has been silent, and a page of 50 conversations of 500 with unread counts',
    unit: 'ms of MariaDB',
    bars: [{ of: 'history', than: '2 ms', atMost: 1 }, { of: 'silent peer', than: '2 ms', atMost: 1 }, { of: 'list', than: '8 ms', atMost: 1 }],
    round: async ({ mariadb }) => {
      const database = await createDatabase(await mariadb.settled())
      try {
        const { history, silent, list } = await conversations(database.url)
        return { history, 'silent peer': silent, list, '2 ms': 2, '8 ms': 8 }
      } finally {
        await database.drop()
      }
    }
  },
  {
    name: 'UUIDs: connect',
    work: 'handshakes, with integers and with UUIDs as ids',
    unit: 'handshakes per CPU second',
    bars: [{ of: 'fastify-realtime, UUIDs', than: 'fastify-realtime', atLeast: 1 / 1.15 }],
    round: async ({ mariadb }) => ({
      ...await each([realtime], async (dialect) => await handshakes(dialect, { count: 4000 }, await stored(mariadb))),
      ...await each([realtimeWithUuids], async (dialect) => await handshakes(dialect, { count: 4000 }, await storedWithUuids(mariadb)))
    })
  },
  {
    name: 'UUIDs: direct messages, durable',
    work: '500 pairs, acked, MariaDB',
    unit: 'acked messages per second',
    bars: [{ of: 'fastify-realtime, UUIDs', than: 'fastify-realtime', atLeast: 1 / 1.35 }],
    round: async ({ mariadb }) => ({
      ...await each([realtime], async (dialect) => (await directMessages(dialect, { pairs: 500, seconds: 3 }, await stored(mariadb))).perSecond),
      ...await each([realtimeWithUuids], async (dialect) => (await directMessages(dialect, { pairs: 500, seconds: 3 }, await storedWithUuids(mariadb))).perSecond)
    })
  },
  {
    name: 'UUIDs: online list',
    work: 'a page of 100, of one node',
    unit: 'requests per CPU second',
    bars: [{ of: 'fastify-realtime, UUIDs', than: 'fastify-realtime', atLeast: 1 / 1.15 }],
    round: async () => await each([realtime, realtimeWithUuids], async (dialect) => await ownRequests(dialect, calls['online list'], { count: 8000, sockets: USERS }, {}))
  },
  {
    name: 'UUIDs: idle memory',
    work: '10,000 connections, authenticated and present',
    once: true,
    unit: 'KiB per connection',
    bars: [{ of: 'fastify-realtime, UUIDs', than: 'fastify-realtime', atMost: 1.15 }],
    round: async () => await each([realtime, realtimeWithUuids], async (dialect) => await idleMemory(dialect, { connections: 10_000 }, {}) / 1024)
  },
  {
    name: 'latency',
    work: '500 members, 60 messages a second: half of Socket.IO’s maximum',
    unit: 'ms',
    bars: [{ of: 'fastify-realtime p50', than: 'socket-io p50', atMost: 1 }, { of: 'fastify-realtime p99', than: 'socket-io p99', atMost: 1 }],
    round: async ({ mariadb }) => {
      const figures: Figures = {}
      for (const dialect of [socketIo, ws, bun, realtime]) {
        const { p50, p99 } = await latency(dialect, { members: 500, rate: 60, seconds: 3 }, await log(dialect, mariadb))
        Object.assign(figures, { [`${dialect.name} p50`]: p50, [`${dialect.name} p99`]: p99 })
      }
      return figures
    }
  }
]
