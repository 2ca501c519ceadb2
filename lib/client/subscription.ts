import type { ClientError } from './errors.js'
import type { Frame, Subscribed } from './types.js'

/** The data of a durable event. */
export interface Told { data: { messageId: number } }

type Durable = Frame & Told

type Phase =
  /** Nothing is known to be missing: what comes moves the cursor. */
  | { name: 'live' }
  /** Asked to go on from the cursor. What comes before the replay does not move it, or the replay would be lost with the socket. */
  | { name: 'resuming', held: Durable[], position: number }

interface Waiter { resolve: (answer: Subscribed) => void, reject: (err: ClientError) => void }

/** One channel the client wants to hear. */
export class Entry {
  readonly channel: string
  /** Nothing up to this id is missing; null: it was never subscribed. */
  cursor: number | null = null
  /** The server's last answer on this socket. */
  last: Subscribed | null = null
  #phase: Phase = { name: 'live' }
  #waiters: Waiter[] = []

  constructor (channel: string) {
    this.channel = channel
  }

  async wait (): Promise<Subscribed> {
    return await new Promise((resolve, reject) => { this.#waiters.push({ resolve, reject }) })
  }

  begin (): void {
    this.last = null
    this.#phase = this.cursor === null ? { name: 'live' } : { name: 'resuming', held: [], position: Infinity }
  }

  suspend (): void {
    this.last = null
    // What was held back stands behind the cursor, and comes again.
    this.#phase = { name: 'live' }
  }

  /** The server's answer. Gives what need not be held back any longer. */
  subscribed (answer: Subscribed): Durable[] {
    this.last = answer
    for (const { resolve } of this.#waiters.splice(0)) resolve(answer)
    const { position } = answer
    if (this.#phase.name === 'live') {
      this.cursor = Math.max(this.cursor ?? 0, position)
      return []
    }
    this.#phase.position = position
    // Nothing comes: there is nothing newer, or it is too much.
    return answer.recovered === false || position <= (this.cursor ?? 0) ? this.reached(position) : []
  }

  /** What may be told now that this event came. */
  take (frame: Durable): Durable[] {
    const id = frame.data.messageId
    if (this.#phase.name === 'resuming') {
      // Live, or what waited for the user: newer than the replay, which comes yet.
      if (this.#phase.position === Infinity || id > this.#phase.position) {
        this.#phase.held.push(frame)
        return []
      }
      return [frame, ...this.reached(id)]
    }
    if (this.cursor !== null && id > this.cursor) this.cursor = id
    return [frame]
  }

  /** The replay ends with `position`: from there on, what was held back. */
  reached (id: number): Durable[] {
    if (this.#phase.name !== 'resuming' || this.#phase.position !== id) return []
    const held = this.#phase.held.sort((a, b) => a.data.messageId - b.data.messageId)
    this.#phase = { name: 'live' }
    this.cursor = Math.max(id, held.at(-1)?.data.messageId ?? 0)
    return held
  }

  /** False: nobody waited. */
  settle (err: ClientError): boolean {
    const waiters = this.#waiters.splice(0)
    for (const { reject } of waiters) reject(err)
    return waiters.length > 0
  }

  adopt (other: Entry): void {
    this.cursor ??= other.cursor
    this.#waiters.push(...other.#waiters)
  }
}
