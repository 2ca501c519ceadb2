import { setTimeout as sleep } from 'node:timers/promises'
import type { Dialect, User } from '../dialects.js'
import type { RawClient } from '../raw-client.js'
import type { Target } from '../servers.js'

/** Of each message, in bytes. */
const SIZE = 128
const SETTLE = 500

export interface FanOut {
  members: number
  publishers: number
  /** At most so many messages of each publisher have not reached every member yet. */
  inFlight: number
  seconds: number
  /**
   * Each publisher sends all of its messages in one write, and again when every member has everything. The server then writes
   * the same number of messages at a time, however long this process takes to read what members get. Otherwise a publisher
   * sends its next message when one of its messages has reached every member.
   */
  inBursts?: boolean
}

/** Joined members, and the frames they received. */
export class Room {
  delivered = 0
  readonly members: RawClient[] = []
  readonly #dialect: Dialect

  constructor (dialect: Dialect) {
    this.#dialect = dialect
  }

  async fill (port: number, members: number): Promise<void> {
    for (let at = 0; at < members; at += 50) {
      this.members.push(...await Promise.all(Array.from({ length: Math.min(50, members - at) }, async (_, i) => {
        const client = await this.#dialect.open(port, userOf(at + i))
        await this.#dialect.join(client)
        return client
      })))
    }
  }

  /** Counts from now on. */
  watch (onDelivered: (count: number) => void): void {
    for (const member of this.members) {
      member.onCount = (count) => {
        this.delivered += count
        onDelivered(count)
      }
    }
  }

  close (): void {
    for (const member of this.members) member.close()
  }
}

/** Tabs per user, the maximum: each new user is announced to all, which is not measured here. */
const TABS = 20
const userOf = (i: number): User => ({ id: 1 + Math.floor(i / TABS), club: 1 })
export const publisherOf = (i: number): User => ({ id: 100_000 + i, club: 1 })

/** Microseconds of the server's processor time for each message that reached a member. */
export async function fanOut (dialect: Dialect, load: FanOut, env?: Record<string, string>): Promise<number> {
  const server = await dialect.start(env)
  try {
    return await measure(dialect, server, server, load)
  } finally {
    await server.stop()
  }
}

/** Members on `receiving`, whose time counts; publishers on `sending`. */
export async function measure (dialect: Dialect, sending: Target, receiving: Target, { members, publishers, inFlight, seconds, inBursts = false }: FanOut): Promise<number> {
  const room = new Room(dialect)
  await room.fill(receiving.port, members)
  const senders = await Promise.all(Array.from({ length: publishers }, async (_, i) => await dialect.open(sending.port, publisherOf(i))))
  await sleep(SETTLE)

  const frame = dialect.message('x'.repeat(SIZE))
  let running = true
  let sent = 0
  let seen = 0
  const wake: Array<() => void> = []
  const send = (): void => { senders[sent++ % publishers]?.send(frame) }
  const burst = Buffer.concat(Array<Buffer>(inFlight).fill(frame))
  const sendBursts = (): void => {
    for (const sender of senders) sender.send(burst)
    sent += inFlight * publishers
  }
  room.watch((count) => {
    seen += count
    if (!inBursts) while (running && seen >= (sent - inFlight * publishers + 1) * members) send()
    else if (running && seen >= sent * members) sendBursts()
    if (seen >= sent * members) for (const resolve of wake.splice(0)) resolve()
  })
  if (inBursts) sendBursts()
  else for (let i = 0; i < inFlight * publishers; i++) send()
  await sleep(3000) // until the code is compiled
  const [cpu, from] = [receiving.cpu(), seen]
  await sleep(seconds * 1000)
  const [used, deliveries] = [receiving.cpu() - cpu, seen - from]
  running = false
  await Promise.race([new Promise<void>((resolve) => { wake.push(resolve) }), sleep(3000)])
  // What was counted too often would look like messages that are still under way.
  await sleep(SETTLE)
  room.close()
  for (const sender of senders) sender.close()
  // Members with sockets also count the few events that are no messages.
  if (Math.abs(seen / (sent * members) - 1) > 1e-4) throw new Error(`${dialect.name}: ${seen} of ${sent * members} messages were counted`)
  return used / deliveries
}
