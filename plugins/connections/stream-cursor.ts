/** The state of a connection on which its cursor depends. */
export interface CursorSource {
  /** Nothing that has arrived on a channel of the stream is being held back, replayed or missed. */
  readonly isSettled: boolean
  /** The epoch of the log. */
  readonly epoch: string
  /** The newest id that this node knows. */
  readonly newest: number
}

/**
 * The cursor of a stream: one id for all of its channels. It promises that a client which resumes with it gets every durable
 * event that this stream did not deliver before the cursor was sent.
 *
 * Why nothing is lost. Let T be the time at which event n was stored, and S the time at which `n` is sent; T is not later than S.
 * Resuming with n replays, per channel, (a) all events above n, (b) events up to n that were stored after T - 15 s, and (c)
 * events up to n that were published after T - 15 s, or are not marked as published. So the stream must have delivered before S
 * every event that was stored and published before T - 15 s, which is not later than S - 15 s:
 *
 * - A published event arrives at this node at once, and is written within a turn. If Redis lost it, this node learns
 *   that within 15 s: the comparison of the counters finds it within 11 s, a dead subscription or a dead connection is noticed
 *   within 10 s. From then on the channel has a gap, or the node is disconnected, and no cursor is sent (`isSettled`) until the
 *   missing events were read from the log and written: the gap of a channel ends after that write (`Hub.fillGap`), because frames
 *   of other channels may be written first.
 * - Late rows: an event may be committed after one with a larger id, by another node, or by a transaction of the host. It is
 *   published after its commit, so (c) includes it, however old its id and its time are.
 * - Other nodes: the same rows are read from the log on whichever node the client resumes. The clocks of the nodes differ by
 *   less than a second, which is part of the 15 s. The time of publication is recorded up to a second late, never early.
 * - Cut in the middle of a turn: it does not matter whether a live event or the cursor after it leaves first, nor which of the
 *   turn's events arrived, because n itself and everything stored or published within the 15 s before it is read again.
 * - Retries carry the id of their first delivery: they can only be below the cursor, which never decreases.
 * - Replays in progress: events that a replay has not written yet would be lost if a live event of another channel advanced the
 *   cursor. So no cursor is sent while a channel of the stream waits for its replay or its reply.
 * - A channel that could not be recovered gets `recovered: false`, and begins at its head.
 */
export class StreamCursor {
  /** Set when the connection exists. */
  source: CursorSource | null = null
  /** The largest written id, and the largest id sent as a cursor; -1: none yet. An empty log is at 0. */
  #written = -1
  #sent = -1
  /** Both belong to this epoch. */
  #epoch = ''
  #isActive = false

  /** Everything is subscribed. */
  begin (): void {
    this.#isActive = true
  }

  /** Events up to `id` are about to be written. Returns the epoch of the cursor that may follow them; null: no cursor may follow. */
  mark (id: number): string | null {
    const { source } = this
    this.#renew()
    if (id < this.#written) return null
    this.#written = id
    if (source === null || !this.#isActive || id === this.#sent || !source.isSettled) return null
    this.#sent = id
    return this.#epoch
  }

  /** The cursor that must be sent on its own; null: none. */
  due (): string | null {
    const { source } = this
    this.#renew()
    if (source === null || !this.#isActive || this.#sent === this.#written || !source.isSettled) return null
    this.#sent = this.#written
    return `${this.#epoch}.${this.#sent}`
  }

  /** Moves to the newest event of the log: otherwise a quiet stream would have to read all later events of other channels when it resumes. */
  advance (): void {
    this.#renew()
    if (this.#isActive && this.source?.isSettled === true) this.#written = Math.max(this.#written, this.source.newest)
  }

  /** Ids of an earlier epoch do not apply to this one. */
  #renew (): void {
    const epoch = this.source?.epoch ?? ''
    if (epoch === this.#epoch) return
    this.#epoch = epoch
    this.#written = this.#sent = -1
  }
}
