import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { Executor } from '../database/dialect.js'
import type { ClaimStore } from './claim-store.js'
import { Commits } from './commits.js'
import type { EventType, NewEvent, StoredEvent } from './contract.js'
import type { Outbox } from './outbox.js'
import type { EventStore } from './store.js'

export interface HostEventsOptions {
  store: EventStore
  claims: ClaimStore
  outbox: Outbox
  clock: Clock
  log: FastifyBaseLogger
  typeOf (name: string): EventType
  onStored (event: Pick<NewEvent, 'tenantId' | 'userId' | 'type' | 'channel' | 'data'>, id: number): void
}

/** Publishes events that the host stored in transactions of its own, right after their commit, and in the order of the commits. */
export class HostEvents {
  readonly #options: HostEventsOptions
  readonly #commits = new Commits((inserted) => {
    this.#waiting.push(...inserted)
    if (!this.#isPublishing) void this.#publishAll()
  })
  /** Ids of events that were committed while others are being published. */
  #waiting: number[] = []
  #isPublishing = false

  constructor (options: HostEventsOptions) {
    this.#options = options
  }

  async watch (transaction: Executor, id: number): Promise<void> {
    await this.#commits.watch(transaction, id)
  }

  /** An event was published, by this node first. */
  announce ({ id, tenantId, userId, type, channel, payload }: StoredEvent): void {
    const { timestamp: _time, ...data } = JSON.parse(payload) as Record<string, unknown>
    this.#options.onStored({ tenantId, userId, type, channel, data }, id)
  }

  async #publishAll (): Promise<void> {
    this.#isPublishing = true
    while (this.#waiting.length > 0) {
      const ids = this.#waiting
      this.#waiting = []
      await this.#publish(ids).catch((err: unknown) => { this.#options.log.debug({ err }, 'Could not publish events of a transaction, the sweeper publishes them') })
    }
    this.#isPublishing = false
  }

  async #publish (ids: number[]): Promise<void> {
    const { store, claims, outbox, clock, typeOf } = this.#options
    // Without events that were rolled back to a savepoint or published by a sweeper.
    for (const event of await store.unpublishedAmong(ids)) {
      await outbox.publish({ ...event, excludeConnectionId: null })
      // A sweeper may have published it at the same time.
      if (await claims.claimPublished(event.id, clock.now())) this.announce(event)
      if (typeOf(event.type).requiresConfirmation === true) await outbox.awaitConfirmation(event.id)
    }
  }
}
