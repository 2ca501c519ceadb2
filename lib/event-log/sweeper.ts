import type { Clock } from '../clock.js'
import { userKey, type UserKey, type UserRef } from '../keys.js'
import type { ClaimStore } from './claim-store.js'
import type { DueEvent, EventType, StoredEvent } from './contract.js'
import { nextStep, RETRY_DELAYS_MS, TOO_OLD, type NextStep } from './next-step.js'
import type { Outbox } from './outbox.js'
import type { EventStore } from './store.js'

/** Rows of one sweep. */
const CHUNK = 500
/** Maximum milliseconds of one sweep, if many events are due. */
const SWEEP_MS = 400
/** If this node dies while it emits lifecycle events, another node emits them after this time, in milliseconds. */
const ANNOUNCE_LEASE_MS = 10_000

export interface SweeperOptions {
  store: EventStore
  claims: ClaimStore
  clock: Clock
  outbox: Outbox
  typeOf (name: string): EventType
  recipientOf (event: StoredEvent): UserRef
  /** The users among these who have a connection, on any node. */
  connectedAmong (users: readonly UserRef[]): Promise<Set<UserKey>>
  /** An event was given up. */
  onFailed (event: StoredEvent, reason: string): void
  /** The recipient of an unconfirmed event is away. */
  onWaiting (event: StoredEvent): void
  /** Whether the lifecycle event has a listener. */
  isWaitingHeard (): boolean
  /** An event of a host's own transaction is published. */
  onStored (event: StoredEvent): void
}

/** Publishes, retries or gives up events that are due. Only one node may do this at a time. */
export class Sweeper {
  /** Age of an unconfirmed event, in milliseconds, at which `waiting` is emitted if its recipient is away. */
  waitingAfter = 10_000
  readonly #options: SweeperOptions

  constructor (options: SweeperOptions) {
    this.#options = options
  }

  /**
   * If many are due, those that became due first and last take turns, so that one user's backlog of a hundred thousand does not
   * hold up new events of others.
   */
  async sweep (): Promise<void> {
    const { store, clock, outbox } = this.#options
    const until = performance.now() + SWEEP_MS
    for (let turn = 0; turn < 2 || performance.now() < until; turn++) {
      if (outbox.isBehind) return
      const now = clock.now()
      const due = await store.due(now, CHUNK, turn % 2 === 0 ? 'first' : 'last')
      if (due.length > 0) await this.#sweep(due, now)
      if (due.length < CHUNK) return
      // Otherwise published events would be found again.
      await outbox.drain()
    }
  }

  async #sweep (all: readonly DueEvent[], now: number): Promise<void> {
    const due = all.filter(({ failure }) => failure === null)
    const { store, outbox, recipientOf, connectedAmong } = this.#options
    const needsConfirmation = ({ type }: StoredEvent): boolean => this.#options.typeOf(type).requiresConfirmation === true
    const connected = await connectedAmong(due.filter(needsConfirmation).map(recipientOf))
    const isConnected = (event: StoredEvent): boolean => {
      const { tenantId, userId } = recipientOf(event)
      return connected.has(userKey(tenantId, userId))
    }
    const steps: Record<NextStep, DueEvent[]> = { publish: [], retry: [], early: [], fail: [], expire: [], wait: [], none: [] }
    for (const event of due) {
      const requiresConfirmation = needsConfirmation(event)
      steps[nextStep(event, { isOnline: requiresConfirmation && isConnected(event), requiresConfirmation, age: now - event.createdAt })].push(event)
    }

    await this.#emitFailed(all.filter(({ failure }) => failure !== null), now)
    await this.#fail(steps.fail, `not confirmed after ${RETRY_DELAYS_MS.length} retries`, now)
    await this.#fail(steps.expire, TOO_OLD, now)
    await this.#retry(steps.retry, now)
    for (const event of steps.publish) {
      await outbox.publishStored(event)
      if (event.isFromHost) await this.#announce(event, now)
      outbox.mark(event)
    }
    const published = steps.publish.filter(needsConfirmation)
    await store.reschedule(idsOf(published.filter(isConnected)), now + RETRY_DELAYS_MS[0], now)
    for (const event of steps.early) await store.reschedule([event.id], event.createdAt + RETRY_DELAYS_MS[0], now)
    await this.#wait([...steps.wait, ...published.filter((event) => !isConnected(event))], now)
  }

  /** Events of host code emit `message` when they are published, on the node that publishes them. */
  async #announce (event: StoredEvent, now: number): Promise<void> {
    if (await this.#options.claims.claimPublished(event.id, now)) this.#options.onStored(event)
  }

  /** Emitted before it is recorded: if this node dies in between, another node emits it again. */
  async #fail (events: readonly DueEvent[], reason: string, now: number): Promise<void> {
    const { store, claims, onFailed } = this.#options
    const claimed = await claims.claimDue(idsOf(events), 'pending', now, now + ANNOUNCE_LEASE_MS)
    const own = events.filter(({ id }) => claimed.has(id))
    for (const event of own) onFailed(event, reason)
    await store.markFailed(idsOf(own), reason, now)
  }

  /** Emits `failed` for events that were given up by a process without a host, such as the command line. */
  async #emitFailed (events: readonly DueEvent[], now: number): Promise<void> {
    const { claims, onFailed } = this.#options
    const claimed = await claims.claimDue(idsOf(events), 'failed', now, now + ANNOUNCE_LEASE_MS)
    const own = events.filter(({ id }) => claimed.has(id))
    for (const event of own) onFailed(event, event.failure ?? '')
    await claims.settleFailed(idsOf(own))
  }

  async #retry (events: readonly DueEvent[], now: number): Promise<void> {
    const { store, outbox } = this.#options
    if (events.length === 0) return
    // Rescheduled first, so that a crash in between costs an attempt instead of causing endless repeats.
    for (const [i, delay] of RETRY_DELAYS_MS.entries()) {
      const ids = idsOf(events.filter(({ retryCount }) => retryCount === i))
      await store.reschedule(ids, now + (RETRY_DELAYS_MS[i + 1] ?? delay), now, { retried: true })
    }
    // Read again, because a message may be edited or deleted at this moment.
    for (const event of await store.pendingAmong(idsOf(events))) await outbox.resend(event)
  }

  /** The recipients are away: the events are sent when they connect, and `waiting` is emitted once for each. */
  async #wait (events: readonly DueEvent[], now: number): Promise<void> {
    const { store, claims, onWaiting, isWaitingHeard } = this.#options
    const unannounced = events.filter((event) => !event.isAnnounced)
    const isYoung = ({ createdAt }: DueEvent): boolean => now - createdAt < this.waitingAfter
    await store.reschedule(idsOf(events.filter((event) => event.isAnnounced)), null, now)
    for (const [dueAt, ids] of byDueTime(unannounced.filter(isYoung), this.waitingAfter)) await store.reschedule(ids, dueAt, now)
    const old = unannounced.filter((event) => !isYoung(event))
    if (old.length === 0) return
    if (!isWaitingHeard()) {
      await claims.markAnnounced(idsOf(old), null, now)
      return
    }
    const lease = now + ANNOUNCE_LEASE_MS
    const claimed = await claims.claimDue(idsOf(old), 'pending', now, lease)
    const own = old.filter(({ id }) => claimed.has(id))
    for (const event of own) onWaiting(event)
    await claims.markAnnounced(idsOf(own), lease, now)
  }
}

const idsOf = (events: readonly StoredEvent[]): number[] => events.map(({ id }) => id)

/** Many events of one notification were created at the same time. */
function byDueTime (events: readonly DueEvent[], delay: number): Map<number, number[]> {
  const found = new Map<number, number[]>()
  for (const { id, createdAt } of events) found.set(createdAt + delay, [...found.get(createdAt + delay) ?? [], id])
  return found
}
