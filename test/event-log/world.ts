import { join } from 'node:path'
import type { Selectable } from 'kysely'
import type { Test } from 'tap'
import type { Backplane, BackplaneHandlers, OutgoingEvent } from '../../lib/backplane/contract.js'
import { privateChannel } from '../../lib/channel-names.js'
import { readMeta } from '../../lib/database/meta.js'
import { migrate } from '../../lib/database/migrator.js'
import { openDatabase, type OpenDatabase } from '../../lib/database/open.js'
import type { Tables } from '../../lib/database/tables.js'
import type { Batch } from '../../lib/delivery/batch.js'
import { Hub, type Member } from '../../lib/delivery/hub.js'
import { EventLog, type EventLogOptions, type NewEvent, type StoredEvent } from '../../lib/event-log/index.js'
import { noPosition } from '../../lib/event-log/redis-position.js'
import { Ids, type IdKind } from '../../lib/ids.js'
import { channelKey, userKey, type ChannelKey, type UserKey } from '../../lib/keys.js'
import { dataFolder } from '../exit-hooks.js'
import { createDatabase } from '../servers.js'
import { digits, fromDigits, translating } from '../string-ids.js'
import { log, StillClock, turn } from '../suites.js'

/** The backplane of a node that can be cut off: it then hears only itself, and its publishers are told. */
export class CuttableBackplane implements Backplane {
  healthy = true
  peers: CuttableBackplane[] = [this]
  readonly #subscribed = new Set<ChannelKey>()
  #handlers: BackplaneHandlers | null = null

  constructor (readonly nodeId: string) {}

  async start (handlers: BackplaneHandlers): Promise<void> {
    this.#handlers = handlers
  }

  async publish (key: ChannelKey, frame: OutgoingEvent): Promise<void> {
    for (const peer of this.healthy ? this.peers.filter(({ healthy }) => healthy) : [this]) {
      if (peer.#subscribed.has(key)) peer.#handlers?.onEvents(key, [frame])
    }
    if (!this.healthy) throw new Error('cut off')
  }

  publishLocally (key: ChannelKey, frame: OutgoingEvent): void {
    if (this.#subscribed.has(key)) this.#handlers?.onEvents(key, [frame])
  }

  mayHaveSubscribers (): boolean {
    return true
  }

  async subscribe (key: ChannelKey): Promise<void> {
    this.#subscribed.add(key)
  }

  unsubscribe (key: ChannelKey): void {
    this.#subscribed.delete(key)
  }

  async call (): Promise<unknown> {
    throw new Error('nobody asks')
  }

  async close (): Promise<void> {}
}

/** What a subscriber heard, in order. */
export class Reader implements Member {
  readonly frames: Array<{ event: string, data: Record<string, unknown> & { messageId: number } }> = []

  waitsOn = 0

  constructor (readonly id: string) {}

  write ({ payloads }: Batch): void {
    for (const payload of payloads) this.frames.push(JSON.parse(payload.toString()) as Reader['frames'][number])
  }

  hold (): boolean {
    return true
  }

  release (): void {}

  ids (): number[] {
    return this.frames.map(({ data }) => data.messageId)
  }

  messages (): unknown[] {
    return this.frames.map(({ data }) => data.message)
  }
}

/** One node's log, with what stands around it. */
export interface Node {
  log: EventLog
  hub: Hub
  backplane: CuttableBackplane
  clock: StillClock
  db: OpenDatabase
  /** `{tenant}/{user}` of those who are online. */
  online: Set<UserKey>
  failed: StoredEvent[]
  listen (channel: string, id?: string, tenantId?: number): Promise<Reader>
  rows (): Promise<Array<Selectable<Tables['websocket_events']>>>
  /** What was accepted is handed on, and the table says so. */
  settle (): Promise<void>
}

type Options = Partial<Pick<EventLogOptions, 'maxQueued' | 'timeout'>> & { origin?: string, db?: OpenDatabase }

/** A kind of database, and a way to make one with the tables of fastify-realtime. */
export interface Storage {
  name: string
  ids: IdKind
  create (t: Test): Promise<() => OpenDatabase>
  /** What no row may be, here. */
  poison: Partial<NewEvent>
}

const databases: Array<Omit<Storage, 'ids'>> = [
  {
    name: 'SQLite',
    create: async () => {
      const url = `sqlite:${join(dataFolder('event-log'), 'realtime.db')}`
      return () => openDatabase(url)
    },
    poison: { channel: null as unknown as string }
  },
  {
    name: 'MariaDB',
    create: async (t) => {
      const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
      t.teardown(drop)
      return () => openDatabase(url)
    },
    poison: { type: 'x'.repeat(51) }
  }
]

export const storages: Storage[] = databases.flatMap((database) => (['integer', 'string'] as const).map((ids) => ({ ...database, ids })))

/** A log with string ids, for tests that say numbers. What an event carries is its own. */
function takingNumbers (log: EventLog): EventLog {
  const options = { ...digits, opaque: 'data', ids: (method: string) => method === 'read' || method === 'counts' ? 1 : 0 }
  const store = translating(log.store, options)
  const own = translating(log, options)
  return new Proxy(own, { get: (target, name) => name === 'store' ? store : Reflect.get(target, name) as unknown })
}

export interface OpenNode {
  /** The first node of a test finds the tables empty. */
  (t: Test, options?: Options): Promise<Node>
  /** Another node on the same database, which `first` can reach. */
  beside (t: Test, first: Node, options: Options): Promise<Node>
  /** Another handle to the same database. */
  database (t: Test): OpenDatabase
}

export async function openStorage (t: Test, storage: Storage): Promise<OpenNode> {
  const connect = await storage.create(t)
  const shared = connect()
  t.teardown(async () => { await shared.close() })
  await migrate(shared.db, 'up', { ids: storage.ids })
  const meta = await readMeta(shared.db)
  const start = async (t: Test, clock: StillClock, { origin = 'node-a', db = shared, maxQueued = 10_000, timeout = 3000 }: Options): Promise<Node> => {
    const backplane = new CuttableBackplane(origin)
    const hub = new Hub(backplane, clock)
    const online = new Set<UserKey>()
    const failed: StoredEvent[] = []
    const eventLog = new EventLog({
      ...db, backplane, hub, clock, log, maxQueued, timeout,
      meta, ids: new Ids(storage.ids), note: noPosition, askPeers: async () => [], epochChanged: () => {},
      connectedAmong: async (users) => new Set(users.map(({ tenantId, userId }) => userKey(tenantId, userId)).filter((user) => online.has(user))),
      onWaiting: () => {},
      isWaitingHeard: () => false,
      onStored: () => {},
      onFailed: (event) => { failed.push(storage.ids === 'integer' ? event : fromDigits(event)) }
    })
    await backplane.start({
      onEvents: (key, frames) => { hub.deliver(key, frames) }, onGap: () => {}, onProbe: () => {}, onReconnected: () => {}, onRequest: async () => null
    })
    // When the first retry is due: one sweep settles what waits for absent recipients.
    eventLog.sweeper.waitingAfter = 5000
    eventLog.defineType('message:direct', { requiresConfirmation: true, copyToSender: true })
    eventLog.defineType('notification:received', { requiresConfirmation: true })
    t.teardown(async () => { await eventLog.close() })
    return {
      log: storage.ids === 'integer' ? eventLog : takingNumbers(eventLog), hub, backplane, clock, db, online, failed,
      listen: async (channel, id = 'reader', tenantId = 1) => {
        const reader = new Reader(id)
        const joining = await hub.join(channelKey(tenantId, channel), reader)
        joining.replied()
        return reader
      },
      rows: async () => {
        const rows = await shared.db.selectFrom('websocket_events').selectAll().orderBy('id').execute()
        return storage.ids === 'integer' ? rows : fromDigits(rows)
      },
      settle: async () => {
        await turn()
        await eventLog.outbox.drain()
        hub.flush()
      }
    }
  }
  const open = async (t: Test, options: Options = {}): Promise<Node> => {
    for (const table of ['websocket_events', 'websocket_channel_floors'] as const) await shared.db.deleteFrom(table).execute()
    return await start(t, new StillClock(), options)
  }
  return Object.assign(open, {
    beside: async (t: Test, first: Node, options: Options) => {
      const node = await start(t, first.clock, options)
      node.backplane.peers = first.backplane.peers
      node.backplane.peers.push(node.backplane)
      return node
    },
    database: (t: Test) => {
      const handle = connect()
      t.teardown(async () => { await handle.close() })
      return handle
    }
  })
}

export const group = (message: string, rest: Partial<NewEvent> = {}): NewEvent =>
  ({ tenantId: 1, userId: 7, channel: 'group.1', type: 'message:group', data: { userId: 7, message }, ...rest })

/** From user 7 to user 8. */
export const direct = (message: string, rest: Partial<NewEvent> = {}): NewEvent =>
  ({ tenantId: 1, userId: 7, channel: privateChannel(8), type: 'message:direct', data: { senderId: 7, message }, ...rest })

/** One user confirms events. */
export const confirm = async (log: EventLog, tenantId: number, userId: number, ids: number[]): Promise<Array<{ id: number, senderId: number, fresh: boolean }>> =>
  (await log.confirm(ids.map((id) => ({ tenantId, userId, id })))).map(({ id, senderId, fresh }) => ({ id, senderId, fresh }))

/** Where a subscriber begins who has not said what it has seen. */
export const positionOf = async (log: EventLog, tenantId: number, channel: string): Promise<number> =>
  await log.replays.position(channelKey(tenantId, channel))

/** What a subscriber who has seen everything up to `since` is told, and then sent: page by page, as a replay reads it. */
export async function missed (
  log: EventLog, tenantId: number, channel: string, since: number
): Promise<{ ids: number[], frames: Reader['frames'], position: number, recovered: boolean }> {
  const key = channelKey(tenantId, channel)
  const { position, recovered, isBehind, isLate } = await log.replays.start(key, since)
  const pages = []
  if (isLate) pages.push(await log.replays.byIds(key, await log.replays.lateBelow(key, since)))
  for (let at = since, more = isBehind; more;) {
    const page = await log.replays.after(key, at)
    pages.push(page)
    at = page.ids.at(-1) ?? at
    more = page.more
  }
  return {
    ids: pages.flatMap(({ ids }) => ids),
    frames: pages.flatMap(({ batch }) => batch.payloads.map((payload) => JSON.parse(payload.toString()) as Reader['frames'][number])),
    position,
    recovered
  }
}

/** Ids of what waits for a user to be confirmed, as a connection that comes is sent it. */
export async function waitingFor (log: EventLog, tenantId: number, userId: number): Promise<number[]> {
  const key = channelKey(tenantId, privateChannel(userId))
  const ids: number[] = []
  for (let page = await log.replays.waiting(key, null); ; page = await log.replays.waiting(key, ids.at(-1) ?? 0)) {
    ids.push(...page.ids)
    if (!page.more) return ids
  }
}
