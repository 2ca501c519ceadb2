import type { FastifyBaseLogger } from 'fastify'
import { sleep } from '../../lib/async/timers.js'
import { privateChannel } from '../../lib/channel-names.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Page } from '../../lib/delivery/joining.js'
import type { PageSource } from '../../lib/delivery/replayer.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey, type ChannelKey } from '../../lib/keys.js'

/** Pause before the log is told again what was sent, in milliseconds; as long as the connection lives. */
const RETRY_MS = 2000
/** How often the sweeper is kept from what still waits, in milliseconds: well within the time for which it is. */
const POSTPONE_EVERY = 30_000

/** Sends a user who connects what waited for them, oldest first, before anything newer. */
export function sendWaiting (internals: Internals, log: FastifyBaseLogger): void {
  internals.waiting = (connection) => new Waiting(internals, log, connection)
}

/** What waits for one user, as one of the user's connections is sent it. By ids: what is confirmed meanwhile moves no page. */
class Waiting implements PageSource {
  readonly #internals: Internals
  readonly #log: FastifyBaseLogger
  readonly #connection: LocalConnection
  readonly #key: ChannelKey
  /** Null before the first page. */
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

  /** From now on they are sent again until they are confirmed. */
  async #mark (find: () => Promise<readonly number[]>): Promise<void> {
    while (!this.#connection.closed) {
      try {
        await this.#internals.eventLog.markSent(await find())
        return
      } catch (err) {
        this.#log.debug({ err, connection_id: this.#connection.id }, 'what was sent is not marked yet')
        await sleep(RETRY_MS, { ref: false })
      }
    }
  }

  #postpone (position: number): void {
    const now = this.#internals.clock.now()
    if (now - this.#postponedAt < POSTPONE_EVERY) return
    this.#postponedAt = now
    this.#internals.eventLog.replays.postpone(this.#key, position)
      .catch((err: unknown) => { this.#log.debug({ err, connection_id: this.#connection.id }, 'what waits may be sent twice') })
  }
}
