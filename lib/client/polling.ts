import { Pause, type ClientClock } from './clock.js'
import { toClientError, type ClientError } from './errors.js'
import type { Rest } from './rest.js'
import type { Entry, Told } from './subscription.js'
import type { Subscriptions } from './subscriptions.js'
import type { Frame, Subscribed } from './types.js'

interface Page { data: Array<Frame & Told>, position: number, recovered: boolean, more: boolean }

interface Hooks {
  tell (event: string, data: object): void
  round (): void
  failed (err: ClientError): void
}

const PAGE = 1000
/** Milliseconds for each channel of a round: 600 requests a minute are what a user may have. */
const PER_CHANNEL = 200

/** Reads what sockets would tell, with the same cursors: durable events only. */
export class Poller {
  readonly #rest: Rest
  readonly #subscriptions: Subscriptions
  readonly #clock: ClientClock
  readonly #interval: number
  readonly #hooks: Hooks
  readonly #pause: Pause
  #round: symbol | null = null

  constructor (rest: Rest, subscriptions: Subscriptions, clock: ClientClock, interval: number, hooks: Hooks) {
    this.#rest = rest
    this.#subscriptions = subscriptions
    this.#clock = clock
    this.#interval = interval
    this.#hooks = hooks
    this.#pause = new Pause(clock)
  }

  get isOn (): boolean {
    return this.#round !== null
  }

  start (): void {
    void this.#run(this.#round = Symbol('polling'))
  }

  stop (): void {
    this.#round = null
    this.#pause.end()
  }

  /** Reads now: something was just subscribed, or the page is seen again. */
  wake (): void {
    this.#pause.end()
  }

  async #run (round: symbol): Promise<void> {
    while (this.#round === round) {
      this.#hooks.round()
      let pause = Math.max(this.#interval, PER_CHANNEL * this.#subscriptions.entries.size)
      try {
        for (const entry of [...this.#subscriptions.entries.values()]) await this.#read(round, entry)
      } catch (thrown) {
        const err = toClientError(thrown)
        if (this.#round === round) this.#hooks.failed(err)
        pause = Math.max(pause, (err.retryAfter ?? 0) * 1000)
      }
      if (this.#round === round) await this.#pause.wait(pause * (0.75 + this.#clock.random() / 2))
    }
  }

  /** Everything that is new on one channel. What was never subscribed begins now: what came before is not told. */
  async #read (round: symbol, entry: Entry): Promise<void> {
    const { channel } = entry
    if (channel === 'presence') return
    const isNew = entry.cursor === null
    let position = entry.cursor ?? 0
    for (let more = true, recovered = true; more;) {
      let page: Page
      try {
        page = await this.#rest.call(`/events?channel=${encodeURIComponent(channel)}&since=${position}&limit=${PAGE}`) as Page
      } catch (thrown) {
        const err = toClientError(thrown)
        if (err.code !== 'RT_FORBIDDEN' && err.code !== 'RT_INVALID_DATA') throw err
        if (this.#round === round) this.#subscriptions.refuse(entry, err)
        return
      }
      if (this.#round !== round) return
      if (!page.recovered && recovered && !isNew) this.#hooks.tell('gap', { channel, position: page.position })
      recovered = page.recovered
      if (!isNew) this.#subscriptions.deliver(page.data)
      position = page.position
      more = page.more
      if (!isNew || !more) entry.cursor = Math.max(entry.cursor ?? 0, position)
    }
    if (entry.last === null) this.#hooks.tell('subscribed', this.#subscribed(entry, position))
  }

  #subscribed (entry: Entry, position: number): Subscribed {
    const answer = { channel: entry.channel, position }
    entry.subscribed(answer)
    return answer
  }
}
