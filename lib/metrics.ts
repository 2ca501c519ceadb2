import type { ErrorCode } from './errors.js'

const OPENING = '{"event":"'
const OTHER = 'other'

/** Counts frames by event. Unknown events and invalid frames are `other`, so that clients cannot create labels. */
export class FrameCounts {
  readonly #counts: Map<string, { count: number }>
  readonly #other = { count: 0 }
  #payload: Buffer | null = null
  #ofPayload = this.#other

  constructor (events: Iterable<string>) {
    this.#counts = new Map([...events].map((event) => [event, { count: 0 }]))
  }

  add (event: string): void {
    (this.#counts.get(event) ?? this.#other).count++
  }

  /** Counts an outgoing frame. A fan-out passes the same buffer many times, so its name is parsed once. */
  addPayload (payload: Buffer): void {
    if (payload !== this.#payload) {
      this.#payload = payload
      this.#ofPayload = this.#counts.get(eventOf(payload)) ?? this.#other
    }
    this.#ofPayload.count++
  }

  get counts (): Array<[event: string, count: number]> {
    return [...[...this.#counts].map(([event, { count }]): [string, number] => [event, count]), [OTHER, this.#other.count]]
  }
}

/** The event of an encoded frame, which begins with it. Names have at most 50 characters. */
function eventOf (payload: Buffer): string {
  const end = payload.indexOf('"', OPENING.length)
  return payload.toString('latin1', OPENING.length, Math.min(end, OPENING.length + 50))
}

/**
 * Counters of this node, read when metrics are scraped. Counters that cost more than an addition are null unless the stats
 * plugin serves metrics.
 */
export class Metrics {
  /** Dropped frames: ephemeral frames for a slow reader, frames that closed a socket as too slow, and frames for a closing socket. */
  readonly dropped = { ephemeral: 0, tooSlow: 0, closing: 0 }
  /** Frames that got an error as reply. */
  readonly refused = new Map<ErrorCode, number>()
  /** Identities that were refused because of a ban or a revocation, REST and sockets, by code. */
  readonly accessRefused = new Map<ErrorCode, number>()
  /** Decisions of the host about live connections that this node applied, by kind. */
  readonly decisions = new Map<string, number>()
  /** Subscriptions of this node that `kick` or a recheck ended. */
  evicted = 0
  /** Messages from Redis that were dropped, by reason. */
  readonly rejected = { malformed: 0, version: 0, signature: 0 }
  /** Sockets of this node, authenticated or not; null without the connections plugin. */
  sockets: (() => number) | null = null
  /** Channels of this node whose members are known; null without the channels plugin. */
  rooms: (() => number) | null = null
  framesIn: FrameCounts | null = null
  framesOut: FrameCounts | null = null
  /** One statement of the log. */
  committed: ((rows: number, seconds: number) => void) | null = null
  /** Called with the time after which a published probe came back to this node. */
  roundTrip: ((seconds: number) => void) | null = null

  refuse (code: ErrorCode): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1)
  }
}
