import { setTimeout as sleep } from 'node:timers/promises'
import { realtime, type Dialect, type User } from '../dialects.js'
import { frameOf, type RawClient } from '../raw-client.js'
import { cpuOf, JWT_SECRET, type Target } from '../servers.js'

/** Rooms of each user, which are those of the 100 users of a club. */
export const ROOMS = 20
const CLUB = 100
/** Users who come, and come again, until the code is compiled: a server runs for weeks. */
const WARM_UP = 1000
const WARM_ROUNDS = 4
const FIRST_OF_WARM_UP = 5_000_000
/** Time after the last response for rows that are written later, such as those of connections. */
const SETTLE = 1200

export const clubOf = (i: number): number => 1 + Math.floor(i / CLUB)
export const userOf = (i: number): User => ({ id: 1 + i, club: clubOf(i) })
export const frame = (event: string, data: object, id = 1): Buffer => frameOf(JSON.stringify({ event, id, data }))
const ACK = '{"event":"ack"'

interface Place { channel: string, since?: number }
interface Subscribed { epoch: string, channels: Array<{ channel: string, position: number, recovered?: boolean, error?: unknown }> }

/** Subscribes to several channels, and resolves with the ack once as many frames as were missed have followed. */
export async function subscribe (
  client: RawClient, channels: Place[], epoch?: string, missed = 0, others: (payload: Buffer) => void = () => {}
): Promise<Subscribed> {
  let ack: Subscribed | null = null
  let left = missed
  client.send(frame('subscribe', { channels, epoch }))
  await client.next((text, payload) => {
    others(payload)
    if (text.startsWith(ACK)) ack = (JSON.parse(text) as { data: Subscribed }).data
    else if (text.startsWith('{"event":"message:group"')) left--
    return ack !== null && left <= 0
  })
  return ack as unknown as Subscribed
}

/** Without a list of members: Socket.IO has none. */
const roomsOf = (prefix: string): string[] => Array.from({ length: ROOMS }, (_, n) => `conversation.${prefix}${n}`)
/** The package's client resumes these as well. */
const OWN = ['user:me', 'broadcast']

/** Opens a connection. A node that is to admit no more at once refuses the others: they come again a little later, like the package's client. */
async function come (server: Target, user: User): Promise<RawClient> {
  for (;;) {
    try {
      return await realtime.open(server.port, user)
    } catch (err) {
      if (!/refused with 1013|HTTP\/1.1 503|ECONNRESET/.test(String(err))) throw err
      await sleep(1000 + Math.random() * 2000)
    }
  }
}

/** Publishes to each room of each club; the ids of the last event before, and of the last one after, `count` events in each room. */
async function publish (server: Target, clubs: number[], rooms: string[], counts: number[]): Promise<Array<Map<string, number>>> {
  const found = counts.map(() => new Map<string, number>())
  for (const club of clubs) {
    const publisher = await realtime.open(server.port, { id: 1_000_000 + club, club })
    for (const [round, count] of counts.entries()) {
      for (let n = 0; n < count * rooms.length; n++) {
        const channel = rooms[n % rooms.length] ?? ''
        publisher.send(frame('message:group', { channel, message: 'x'.repeat(128), conversationId: 'bench' }, n))
        const text = await publisher.next((text) => text.startsWith(`${ACK},"id":${n},`))
        found[round]?.set(`${club}/${channel}`, (JSON.parse(text) as { data: { messageId: number } }).data.messageId)
      }
    }
    publisher.close()
  }
  return found
}

/**
 * Users of a node that was closed come back to another one, all at once, and resume their rooms, of which that node knows
 * nothing. Milliseconds of processor time for each of them.
 */
export async function comingBack (
  { users, missed }: { users: number, missed: number }, env: Record<string, string>, [mariadb, redis]: [number, number]
): Promise<Record<string, number>> {
  const closing = await realtime.start(env)
  const server = await realtime.start(env)
  const clients: RawClient[] = []
  try {
    await warmUp(server)
    const rooms = roomsOf(`room${Date.now()}.`)
    const clubs = Array.from({ length: clubOf(users - 1) }, (_, n) => 1 + n)
    const [before, after] = await publish(closing, clubs, rooms, [1, missed])
    const seen = { ...before === undefined ? {} : Object.fromEntries(before), ...missed === 0 && after !== undefined ? Object.fromEntries(after) : {} }
    const answers: Subscribed[] = []
    for (let at = 0; at < users; at += 50) {
      answers.push(...await Promise.all(Array.from({ length: 50 }, async (_, n) => {
        const client = await realtime.open(closing.port, userOf(at + n))
        client.onClose = () => {}
        return await subscribe(client, [...OWN, ...rooms].map((channel) => ({ channel })))
      })))
    }
    await closing.close()
    await sleep(500)
    const used = (): number[] => [server.cpu(), cpuOf(mariadb), cpuOf(redis)]
    const cpu = used()
    const began = performance.now()
    await Promise.all(answers.map(async ({ epoch, channels }, i) => {
      const client = await come(server, userOf(i))
      clients.push(client)
      const places = channels.map(({ channel, position }) => ({ channel, since: seen[`${clubOf(i)}/${channel}`] ?? position }))
      const answer = await subscribe(client, places, epoch, missed * ROOMS)
      if (answer.channels.some(({ error, recovered }) => error !== undefined || recovered !== true)) throw new Error(JSON.stringify(answer))
    }))
    const seconds = (performance.now() - began) / 1000
    await sleep(SETTLE)
    const [node = NaN, ofMariadb = NaN, ofRedis = NaN] = used().map((value, i) => (value - (cpu[i] ?? NaN)) / 1000 / users)
    return { node, MariaDB: ofMariadb, Redis: ofRedis, 's until all are back': seconds }
  } finally {
    for (const client of clients) client.close()
    await Promise.all([closing.stop(), server.stop()])
  }
}

/** Other users, of other clubs, in other rooms. */
async function warmUp (server: Target): Promise<void> {
  const first = FIRST_OF_WARM_UP
  const rooms = roomsOf(`warm${Date.now()}.`)
  const clubs = Array.from({ length: WARM_UP / CLUB }, (_, n) => clubOf(first + n * CLUB))
  const [since] = await publish(server, clubs, rooms, [1, 1])
  for (let round = 0; round < WARM_ROUNDS; round++) {
    const clients = await Promise.all(Array.from({ length: WARM_UP }, async (_, n) => {
      const client = await come(server, userOf(first + n))
      await subscribe(client, rooms.map((channel) => ({ channel, since: since?.get(`${clubOf(first + n)}/${channel}`) ?? 0 })), undefined, ROOMS)
      return client
    }))
    for (const client of clients) client.close()
    await sleep(500)
  }
}

/** A peer without a log: its users connect, and join as many rooms with one frame, to which it replies. Milliseconds of processor time for each user. */
export async function comingBackToPeer (
  dialect: Dialect, { users, join, isJoined }: { users: number, join: Buffer, isJoined: (text: string) => boolean }, env: Record<string, string> = {}, pids: number[] = []
): Promise<number[]> {
  const server = await dialect.start({ JWT_SECRET, ...env })
  const come = async (from: number, count: number): Promise<RawClient[]> => await Promise.all(Array.from({ length: count }, async (_, n) => {
    const client = await dialect.open(server.port, userOf(from + n))
    client.send(join)
    await client.next(isJoined)
    return client
  }))
  try {
    for (let round = 0; round < WARM_ROUNDS; round++) {
      for (const client of await come(FIRST_OF_WARM_UP, WARM_UP)) client.close()
      await sleep(500)
    }
    const used = (): number[] => [server.cpu(), ...pids.map(cpuOf)]
    const before = used()
    const clients = await come(0, users)
    await sleep(SETTLE)
    const found = used().map((value, i) => (value - (before[i] ?? NaN)) / 1000 / users)
    for (const client of clients) client.close()
    return found
  } finally {
    await server.stop()
  }
}

export const joinOfSocketIo = {
  join: frameOf(`42${JSON.stringify(['js', roomsOf('room')])}`), isJoined: (text: string) => text === '42["js"]'
}
export const joinOfFloor = {
  join: frame('subscribe', { channels: [...OWN, ...roomsOf('room')].map((channel) => ({ channel })) }), isJoined: (text: string) => text.startsWith(ACK)
}
