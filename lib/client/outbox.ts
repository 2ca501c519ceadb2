import { Pause, type ClientClock } from './clock.js'
import { ClientError, isPassing, toClientError } from './errors.js'
import type { Carrier } from './subscriptions.js'

/** The server knows a `dedupeId` for 5 minutes; later the same one would be stored again. */
const KNOWN_FOR = 290_000

interface Item {
  event: string
  data: object
  resolve: (ack: unknown) => void
  reject: (err: ClientError) => void
  /** When it was first on its way. */
  sentAt: number | null
}

/**
 * Durable sends, in order, one under way at a time: each keeps its `dedupeId`, so that one whose answer was lost is sent
 * again and stored once, and none overtakes another that the server could not take yet.
 */
export class Outbox {
  readonly #clock: ClientClock
  readonly #pause: Pause
  readonly #max: number
  #items: Item[] = []
  #carrier: Carrier | null = null
  #busy = false

  constructor (clock: ClientClock, max: number) {
    this.#clock = clock
    this.#pause = new Pause(clock)
    this.#max = max
  }

  /** The ack. Rejects with the server's refusal, `RT_QUEUE_FULL`, `RT_OUTCOME_UNKNOWN` or what `stop` was given. */
  async add (event: string, data: object): Promise<unknown> {
    if (this.#items.length >= this.#max) throw new ClientError('RT_QUEUE_FULL', `${this.#max} sends wait for the server`)
    return await new Promise((resolve, reject) => {
      this.#items.push({ event, data: { dedupeId: randomId(), ...data }, resolve, reject, sentAt: null })
      void this.#flush()
    })
  }

  /** From now on by this way; null: there is none. */
  carry (carrier: Carrier | null): void {
    this.#carrier = carrier
    this.#pause.end()
    void this.#flush()
  }

  /** All that waits is given up. */
  stop (err: ClientError): void {
    this.carry(null)
    for (const { reject } of this.#items.splice(0)) reject(err)
  }

  async #flush (): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    for (let item = this.#items[0]; item !== undefined && this.#carrier !== null; item = this.#items[0]) await this.#send(item, this.#carrier)
    this.#busy = false
  }

  async #send (item: Item, carrier: Carrier): Promise<void> {
    const done = (settle: () => void): void => {
      if (this.#items[0] === item) this.#items.shift()
      settle()
    }
    const now = this.#clock.now()
    item.sentAt ??= now
    if (now - item.sentAt > KNOWN_FOR) {
      done(() => { item.reject(new ClientError('RT_OUTCOME_UNKNOWN', 'The answer was lost for too long to send it again safely')) })
      return
    }
    try {
      const ack = await carrier(item.event, item.data)
      done(() => { item.resolve(ack) })
    } catch (thrown) {
      const err = toClientError(thrown)
      if (err.code === 'RT_SOCKET_CLOSED') {
        if (this.#carrier === carrier) this.#carrier = null
      } else if (isPassing(err)) await this.#pause.wait((err.retryAfter ?? 1) * 1000 + this.#clock.random() * 1000)
      else done(() => { item.reject(err) })
    }
  }
}

/** `crypto.randomUUID` is there only on pages that came by https. */
export const randomId = (): string => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')
