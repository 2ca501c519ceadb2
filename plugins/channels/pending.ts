import type { FastifyBaseLogger } from 'fastify'
import { sleep } from '../../lib/async/timers.js'
import { privateChannel } from '../../lib/channel-names.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Page } from '../../lib/delivery/joining.js'
import type { PageSource } from '../../lib/delivery/replayer.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey, type ChannelKey } from '../../lib/keys.js'

/** Pause before a failed `markSent` is retried, as long as the connection is open. */
const RETRY_MS = 2000
/** Interval at which the retries of events that still wait are postponed: well below the time of one postponement. */
const POSTPONE_INTERVAL_MS = 30_000

/** Sends a user who connects the events that waited for them, oldest first, before any newer one. */
export function sendWaiting (internals: Internals, log: FastifyBaseLogger): void {
  internals.waiting = (connection) => new Waiting(internals, log, connection)
}

/** The events that wait for one user, for one of the user's connections. Pages are by id, so that confirmations do not shift them. */
class Waiting implements PageSource {
  readonly #internals: Internals
  readonly #log: FastifyBaseLogger
  readonly #connection: LocalConnection
  readonly #key: ChannelKey
  /** The last id that was sent; null before the first page. */
  #position: number | null = null
  #postponedAt = -Infinity

  constructor (internals: Internals, log: FastifyBaseLogger, connection: LocalConnection) {
    const { tenantId, userId } = connection.identity
    this.#internals = internals
    this.#log = log
    this.#connection = connection
    this.#key = channelKey(tenantId, privateChannel(userId))
  }

  async read (): Promise<Page> {
    return await this.#internals.eventLog.replays.waiting(this.#key, this.#position)
  }

  written ({ ids, more }: Page, count: number): void {
    const sent = ids.slice(0, count)
    const position = this.#position = sent.at(-1) ?? this.#position ?? 0
    if (sent.length > 0) void this.#mark(async () => sent)
    if (more) this.#postpone(position)
  }

  skip (): void {
    const { replays } = this.#internals.eventLog
    const position = this.#position ?? 0
    void this.#mark(async () => await replays.waitingIds(this.#key, position))
  }

  /** Marks events as sent: from now on they are retried until they are confirmed. */
  async #mark (find: () => Promise<readonly number[]>): Promise<void> {
    while (!this.#connection.closed) {
      try {
        await this.#internals.eventLog.markSent(await find())
        return
      } catch (err) {
        this.#log.debug({ err, connection_id: this.#connection.id }, 'Could not mark events as sent, retrying')
        await sleep(RETRY_MS, { ref: false })
      }
    }
  }

  #postpone (position: number): void {
    const now = this.#internals.clock.now()
    if (now - this.#postponedAt < POSTPONE_INTERVAL_MS) return
    this.#postponedAt = now
    this.#internals.eventLog.replays.postpone(this.#key, position)
      .catch((err: unknown) => { this.#log.debug({ err, connection_id: this.#connection.id }, 'Could not postpone waiting events: they may be sent twice') })
  }
}
