import type { FastifyBaseLogger } from 'fastify'
import { batchLoader } from '../async/batch-loader.js'
import { PUBLISHED, type Backplane, type OutgoingEvent } from '../backplane/contract.js'
import { privateChannel, privateOwner } from '../channel-names.js'
import type { Clock } from '../clock.js'
import type { Id, Ids } from '../ids.js'
import { channelKey, userKey, type ChannelKey, type UserKey, type UserRef } from '../keys.js'
import { encodeStored } from '../wire/protocol.js'
import type { EventType, StoredEvent } from './contract.js'
import { PublishedMarker } from './published-marker.js'
import type { EventStore } from './store.js'

/** Delays before each further try of an unconfirmed event, in milliseconds; after the last one it is failed. */
export const RETRY_DELAYS_MS = [5000, 15_000, 60_000, 60_000, 60_000] as const
/** An unconfirmed event older than this is failed. */
export const MAX_PENDING_AGE_MS = 7 * 24 * 3600_000
/** Rows of one sweep, and of one step of catching up. */
const CHUNK = 500
/** Pause between two tries to hand on what was left behind. */
const CATCH_UP_INTERVAL_MS = 1000
/** Milliseconds after the outbox caught up until what it handed on late is behind everything that was being committed then. */
const OUT_OF_ORDER = 10_000

export interface OutboxOptions {
  store: EventStore
  ids: Ids
  backplane: Backplane
  clock: Clock
  log: FastifyBaseLogger
  typeOf (name: string): EventType
  /** Which of these users are online anywhere. */
  onlineAmong (users: readonly UserRef[]): Promise<Set<UserKey>>
  onFailed (event: StoredEvent): void
}

/** A committed event, ready to be handed on. */
export interface CommittedEvent extends Omit<StoredEvent, 'retryCount' | 'publishedAt'> {
  /** The connection that sent it and must not get it back. */
  excludeConnectionId: string | null
}

/**
 * Hands committed events to the nodes, in order. The table itself is the outbox: a row keeps its `due_at` until every
 * node was handed it (and, for some types, until the recipient confirmed it), so that whatever a crash or an absence of
 * Redis left behind is found again, by this node when Redis is back or by the sweeper of any node.
 */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #done: PublishedMarker
  readonly #unconfirmed: PublishedMarker
  /** What many users were sent who came at once is one statement. */
  readonly #sent = batchLoader<number, never>(async (ids) => {
    const now = this.#options.clock.now()
    await this.#options.store.reschedule(ids, now + RETRY_DELAYS_MS[0], now)
    return new Map<number, never>()
  })
  /** Redis lost something: until everything left behind is handed on, newer events wait in the table behind it. */
  #isBehind = false
  #addedWhileBehind = 0
  #caughtUpAt = -Infinity
  #catchingUp: Promise<void> | null = null

  constructor (options: OutboxOptions) {
    this.#options = options
    this.#done = new PublishedMarker({ ...options, done: true })
    this.#unconfirmed = new PublishedMarker({ ...options, done: false })
  }

  get isBehind (): boolean {
    return this.#isBehind
  }

  /** What this node handed on arrived here when it arrived everywhere. */
  get isInOrder (): boolean {
    return !this.#isBehind && performance.now() - this.#caughtUpAt > OUT_OF_ORDER
  }

  /**
   * Hands one event on, or leaves it to the catching up where older ones wait. Resolves when the other nodes were handed it
   * or cannot be reached, `PUBLISHED` where that is so at once; never rejects. The sender is told after that: were it told before
   * and this node killed right then, what the sender sends next through another node would overtake this.
   */
  publish (event: CommittedEvent): Promise<void> {
    const frame = this.#frame(event, false)
    if (this.#isBehind) {
      this.#addedWhileBehind++
      for (const key of this.#keys(event)) this.#options.backplane.publishLocally(key, frame)
      return PUBLISHED
    }
    const published = this.#sendToNodes(event, frame)
    if (published !== PUBLISHED) return published.then(() => { this.#mark(event) }, (err: unknown) => { this.#fallBehind(err) })
    this.#mark(event)
    return PUBLISHED
  }

  /** Called when other nodes can be reached again. */
  async catchUp (): Promise<void> {
    this.#catchingUp ??= this.#drainBacklog().finally(() => { this.#catchingUp = null })
    await this.#catchingUp
  }

  /** Looks at the rows that are due; on one node at a time. */
  async sweep (): Promise<void> {
    const { store, ids, clock, onlineAmong } = this.#options
    if (this.#isBehind) return
    const now = clock.now()
    const due = await store.due(now, CHUNK)
    if (due.length === 0) return
    const unconfirmed = due.filter(({ type }) => this.#options.typeOf(type).requiresConfirmation === true)
    const ownerOf = ({ channel }: StoredEvent): Id => privateOwner(channel, ids) ?? ids.system
    const reachable = await onlineAmong(unconfirmed.map((event) => ({ tenantId: event.tenantId, userId: ownerOf(event) })))
    const isOnline = (event: StoredEvent): boolean => reachable.has(userKey(event.tenantId, ownerOf(event)))

    const again = unconfirmed.filter((event) => isOnline(event) && event.publishedAt !== null)
    const exhausted = again.filter((event) => event.retryCount >= RETRY_DELAYS_MS.length)
    const retries = again.filter((event) => event.retryCount < RETRY_DELAYS_MS.length)
    const first = due.filter((event) => event.publishedAt === null)

    await store.markFailed(exhausted.map(({ id }) => id), `not confirmed after ${RETRY_DELAYS_MS.length} retries`, now)
    for (const event of exhausted) this.#options.onFailed(event)
    // Rescheduled before they are sent: a crash in between costs a try, never an endless repeat.
    for (const [i, delay] of RETRY_DELAYS_MS.entries()) {
      const ids = retries.filter(({ retryCount }) => retryCount === i).map(({ id }) => id)
      await store.reschedule(ids, now + (RETRY_DELAYS_MS[i + 1] ?? delay), now, { retried: true })
    }
    // To the recipient alone: the sender's other connections have had it.
    for (const event of retries) {
      await this.#options.backplane.publish(channelKey(event.tenantId, event.channel), this.#frame({ ...event, excludeConnectionId: null }, true))
    }
    for (const event of first) {
      await this.#sendToNodes({ ...event, excludeConnectionId: null }, this.#frame({ ...event, excludeConnectionId: null }, false))
      this.#mark(event)
    }
    // Nobody there: they wait for their user to connect.
    const absent = unconfirmed.filter((event) => !isOnline(event)).map(({ id }) => id)
    await store.reschedule(absent, null, now)
    const present = first.filter((event) => this.#options.typeOf(event.type).requiresConfirmation === true && isOnline(event)).map(({ id }) => id)
    await store.reschedule(present, now + RETRY_DELAYS_MS[0], now)
  }

  /** Sent to a connection of their user: from now on they are tried again until confirmed. */
  async markSent (ids: readonly number[]): Promise<void> {
    await Promise.all(ids.map(async (id) => { await this.awaitConfirmation(id) }))
  }

  /** Events that are tried again until confirmed are tried no earlier than this. */
  async postpone (ids: readonly number[], dueAt: number): Promise<void> {
    const { store, clock } = this.#options
    for (let at = 0; at < ids.length; at += CHUNK) await store.postpone(ids.slice(at, at + CHUNK), dueAt, clock.now())
  }

  /** An event was handed on: it is tried again, after a while, until it is confirmed. */
  async awaitConfirmation (id: number): Promise<void> {
    await this.#sent(id)
  }

  /** Writes what is known of handed events to the table. */
  async drain (): Promise<void> {
    await this.#done.drain()
    await this.#unconfirmed.drain()
  }

  async #drainBacklog (): Promise<void> {
    const { store, log } = this.#options
    if (!this.#isBehind) return
    let published = 0
    try {
      // What was handed on before Redis was lost is not handed on again.
      await this.drain()
      for (;;) {
        this.#addedWhileBehind = 0
        const events = await store.unpublished(CHUNK)
        // Not `again`: nodes that have it already, this one first, drop it by its id.
        await Promise.all(events.map(async (event) => {
          await this.#sendToNodes({ ...event, excludeConnectionId: null }, this.#frame({ ...event, excludeConnectionId: null }, false))
        }))
        published += events.length
        const now = this.#options.clock.now()
        await store.markPublished(events.filter(({ type }) => !this.#requiresConfirmation(type)).map(({ id }) => id), now, true)
        await store.markPublished(events.filter(({ type }) => this.#requiresConfirmation(type)).map(({ id }) => id), now, false)
        // What was committed while the table was read is behind what was read: only now may live events overtake nothing.
        if (events.length === 0 && this.#addedWhileBehind === 0) break
      }
      this.#isBehind = false
      this.#caughtUpAt = performance.now()
      log.info({ events: published }, 'outbox caught up')
    } catch (err) {
      log.warn({ err }, 'outbox cannot catch up yet')
    }
  }

  #sendToNodes (event: CommittedEvent, frame: OutgoingEvent): Promise<void> {
    let all = PUBLISHED
    for (const key of this.#keys(event)) {
      const one = this.#options.backplane.publish(key, frame)
      // Mostly what one turn publishes has one outcome.
      if (all === PUBLISHED) all = one
      else if (one !== all) all = Promise.all([all, one]).then(() => {})
    }
    return all
  }

  #keys ({ tenantId, channel, type, userId }: Omit<CommittedEvent, 'excludeConnectionId' | 'payload'>): ChannelKey[] {
    const own = privateChannel(userId)
    return this.#options.typeOf(type).copyToSender === true && own !== channel
      ? [channelKey(tenantId, channel), channelKey(tenantId, own)]
      : [channelKey(tenantId, channel)]
  }

  #frame (event: CommittedEvent, isRetry: boolean): OutgoingEvent {
    return { payload: encodeStored(event.type, event.id, event.payload), messageId: event.id, excludeConnectionId: event.excludeConnectionId, isRetry }
  }

  #requiresConfirmation (type: string): boolean {
    return this.#options.typeOf(type).requiresConfirmation === true
  }

  #fallBehind (err: unknown): void {
    if (this.#isBehind) return
    this.#isBehind = true
    this.#options.log.warn({ err }, 'backplane away: events wait in the table for the other nodes')
    this.#catchUpLater()
  }

  /** A connection that was slow, not cut, is fine again without anybody calling. */
  #catchUpLater (): void {
    setTimeout(() => {
      const caughtUp = this.#options.backplane.healthy ? this.catchUp() : Promise.resolve()
      void caughtUp.then(() => { if (this.#isBehind) this.#catchUpLater() })
    }, CATCH_UP_INTERVAL_MS).unref()
  }

  #mark ({ id, type }: { id: number, type: string }): void {
    if (this.#requiresConfirmation(type)) this.#unconfirmed.add(id)
    else this.#done.add(id)
  }
}
