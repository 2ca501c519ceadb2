import type { FastifyBaseLogger } from 'fastify'
import { batchLoader } from '../async/batch-loader.js'
import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import type { Backplane, OutgoingEvent } from '../backplane/contract.js'
import { isPrivate, privateChannel, privateOwner } from '../channel-names.js'
import type { Clock } from '../clock.js'
import type { Ids } from '../ids.js'
import { channelKey, type ChannelKey, type UserRef } from '../keys.js'
import { encodeStored } from '../wire/protocol.js'
import type { EventType, StoredEvent } from './contract.js'
import { RETRY_DELAYS_MS } from './next-step.js'
import type { PendingLimit } from './pending-limit.js'
import { PublishedMarker } from './published-marker.js'
import type { EventStore } from './store.js'

/** Rows of one step of `catchUp`. */
const CHUNK = 500
/** Milliseconds between two attempts to publish the backlog. */
const CATCH_UP_INTERVAL_MS = 1000
/** Milliseconds after `catchUp` until no commit can still be running that began before it. */
const OUT_OF_ORDER_MS = 10_000

export interface OutboxOptions {
  store: EventStore
  ids: Ids
  backplane: Backplane
  clock: Clock
  log: FastifyBaseLogger
  pendingLimit: Pick<PendingLimit, 'add'>
  typeOf (name: string): EventType
}

/** A committed event, ready to be published. */
export interface CommittedEvent extends Omit<StoredEvent, 'retryCount' | 'publishedAt' | 'isFromHost'> {
  /** The connection that sent it and does not get it. */
  excludeConnectionId: string | null
}

/**
 * Publishes committed events to all nodes, in order. The table is the outbox: a row keeps its `due_at` until it was published
 * (and, for some types, confirmed by the recipient). Events left unpublished by a crash or an outage of Redis are published later,
 * by this node when Redis is back, or by the sweeper of any node.
 */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #done: PublishedMarker
  readonly #unconfirmed: PublishedMarker
  /** One statement for the events of many users who connect at the same time. */
  readonly #sent = batchLoader<number, never>(async (ids) => {
    const now = this.#options.clock.now()
    await this.#options.store.reschedule(ids, now + RETRY_DELAYS_MS[0], now)
    return new Map<number, never>()
  })
  /** A publish failed: newer events wait in the table until the older ones are published. */
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

  /** The order in which this node's events arrive here is the order on all nodes. */
  get isInOrder (): boolean {
    return !this.#isBehind && performance.now() - this.#caughtUpAt > OUT_OF_ORDER_MS
  }

  /**
   * Publishes an event, or leaves it to `catchUp` while older ones wait. Resolves after other nodes have the event or are
   * known to be unreachable; never rejects. The sender's ack waits for it: if this node died after the ack but before
   * publishing, the sender's next message could reach others first through another node. Synchronous in a single process (bench
   * row "direct messages, durable").
   */
  publish (event: CommittedEvent): MaybePromise<void> {
    const frame = this.#frame(event, false)
    if (this.#requiresConfirmation(event.type)) this.#options.pendingLimit.add(event.tenantId, event.channel)
    if (this.#isBehind) {
      this.#addedWhileBehind++
      for (const key of this.keysOf(event)) this.#options.backplane.publishLocally(key, frame)
      return
    }
    const published = this.#sendToNodes(event, frame)
    if (isPromise(published)) return published.then(() => { this.mark(event) }, (err: unknown) => { this.#fallBehind(err) })
    this.mark(event)
  }

  /** Publishes the backlog; called when other nodes can be reached again. */
  async catchUp (): Promise<void> {
    this.#catchingUp ??= this.#drainBacklog().finally(() => { this.#catchingUp = null })
    await this.#catchingUp
  }

  /** Sends an event again, to the recipient alone: the sender's other connections have it already. */
  async resend (event: StoredEvent): Promise<void> {
    await this.#options.backplane.publish(channelKey(event.tenantId, event.channel), this.#frame({ ...event, excludeConnectionId: null }, true))
  }

  /** The events were sent to a connection of their recipient: they are sent again until they are confirmed. */
  async markSent (ids: readonly number[]): Promise<void> {
    await Promise.all(ids.map(async (id) => { await this.awaitConfirmation(id) }))
  }

  /** Delays the next attempt of unconfirmed events until `dueAt`, if it would be earlier. */
  async postpone (ids: readonly number[], dueAt: number): Promise<void> {
    const { store, clock } = this.#options
    for (let at = 0; at < ids.length; at += CHUNK) await store.postpone(ids.slice(at, at + CHUNK), dueAt, clock.now())
  }

  /** The event was published: it is sent again, after a delay, until it is confirmed. */
  async awaitConfirmation (id: number): Promise<void> {
    await this.#sent(id)
  }

  /** Marks published events in the table. */
  async drain (): Promise<void> {
    await this.#done.drain()
    await this.#unconfirmed.drain()
  }

  async #drainBacklog (): Promise<void> {
    const { store, log } = this.#options
    if (!this.#isBehind) return
    let published = 0
    try {
      // First, so that events published before the outage are not published again.
      await this.drain()
      for (;;) {
        this.#addedWhileBehind = 0
        const events = await store.unpublished(CHUNK)
        // Not as retries: nodes that have an event already, like this one, drop it by its id.
        await Promise.all(events.map(async (event) => { await this.publishStored(event) }))
        published += events.length
        const now = this.#options.clock.now()
        await store.markPublished(idsOf(events.filter(({ type }) => !this.#requiresConfirmation(type))), now, true)
        await store.markPublished(idsOf(events.filter(({ type }) => this.#requiresConfirmation(type))), now, false)
        // Events committed while the table was read follow those that were read. The backlog is empty when neither has any.
        if (events.length === 0 && this.#addedWhileBehind === 0) break
      }
      this.#isBehind = false
      this.#caughtUpAt = performance.now()
      log.info({ events: published }, 'Published all events that had waited for other nodes')
    } catch (err) {
      log.warn({ err }, 'Cannot publish waiting events, retrying')
    }
  }

  /** Publishes an event that was read from the table. Other nodes that have it already drop it by its id. */
  async publishStored (event: StoredEvent): Promise<void> {
    const toAll = { ...event, excludeConnectionId: null }
    await this.#sendToNodes(toAll, this.#frame(toAll, false))
  }

  #sendToNodes (event: CommittedEvent, frame: OutgoingEvent): MaybePromise<void> {
    let all: MaybePromise<void> = undefined
    for (const key of this.keysOf(event)) {
      const one = this.#options.backplane.publish(key, frame)
      // Events of one turn usually share a promise.
      if (!isPromise(all)) all = one
      else if (one !== all) all = Promise.all([all, one]).then(() => {})
    }
    return all
  }

  /** The one user who confirms an event. */
  recipientOf ({ tenantId, channel }: StoredEvent): UserRef {
    const { ids } = this.#options
    return { tenantId, userId: privateOwner(channel, ids) ?? ids.system }
  }

  /** The channels on which an event is published. */
  keysOf ({ tenantId, channel, type, userId }: Omit<CommittedEvent, 'excludeConnectionId' | 'payload'>): ChannelKey[] {
    const own = privateChannel(userId)
    return this.#options.typeOf(type).copyToSender === true && own !== channel && isPrivate(channel)
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
    this.#options.log.warn({ err }, 'Backplane away, events wait in the table for other nodes')
    this.#catchUpLater()
  }

  /** If the backplane was slow instead of disconnected, no reconnect calls `catchUp`. */
  #catchUpLater (): void {
    setTimeout(() => {
      const caughtUp = this.#options.backplane.healthy ? this.catchUp() : Promise.resolve()
      void caughtUp.then(() => { if (this.#isBehind) this.#catchUpLater() })
    }, CATCH_UP_INTERVAL_MS).unref()
  }

  /** Records, a little later, that an event was published. */
  mark ({ id, type }: { id: number, type: string }): void {
    if (this.#requiresConfirmation(type)) this.#unconfirmed.add(id)
    else this.#done.add(id)
  }
}

const idsOf = (events: readonly StoredEvent[]): number[] => events.map(({ id }) => id)
