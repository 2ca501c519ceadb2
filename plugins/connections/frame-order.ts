import { isPromise, type MaybePromise } from '../../lib/async/maybe-promise.js'
import type { Transport } from './transport.js'

/** Tasks that may wait for their turn. With more, the client's frames are not read until half of them are done. */
const MAX_TASKS = 256
/** Replies that may wait for the commit of an earlier message, including the replies to messages being committed. */
const MAX_REPLIES = 500

type Task = () => MaybePromise<void>

/** A position in the order of replies. It is filled once, with the reply, or with null for no reply. */
export class ReplySlot {
  filled = false
  isDeferred = false
  reply: Buffer | null = null
  afterwards: (() => void) | undefined = undefined
  readonly #order: FrameOrder

  constructor (order: FrameOrder) {
    this.#order = order
  }

  /** The reply waits for a commit, while later frames are handled. */
  defer (): void {
    this.isDeferred = true
    this.#order.noteDeferred()
  }

  fill (reply: Buffer | null, afterwards?: () => void): void {
    this.filled = true
    this.reply = reply
    this.afterwards = afterwards
    this.#order.noteFilled(this)
  }
}

/** The part of a connection that a {@link FrameOrder} uses. */
export interface Replying {
  readonly transport: Pick<Transport, 'isPaused' | 'pause' | 'resume'>
  send (reply: Buffer): void
}

/**
 * Handles the frames of a connection in their order, and writes their replies in the same order. The reply to a durable send waits
 * for its commit, while the frames after it are already being handled.
 *
 * Waiting replies are limited. While too many replies, or too many bytes of them, wait for a commit, no further frame is handled
 * or read, and TCP slows the client down. A frame that is being handled is not interrupted, so at most one reply exceeds the
 * limit. Every commit ends within `storageTimeout`, and the wait with it.
 */
export class FrameOrder {
  readonly #slots: ReplySlot[] = []
  readonly #receiver: Replying
  readonly #maxBytes: number
  /** Tasks that wait for the one before them; null: none. */
  #tasks: Task[] | null = null
  #isWorking = false
  /** The next task waits until there is room for its reply. */
  #isHeld = false
  /** Frames whose commit is in progress. */
  #deferred = 0
  /** Replies that wait: for their own commit, or for that of an earlier frame. */
  #replies = 0
  /** Bytes of filled replies that wait. */
  bytes = 0
  /** Called when frames may be sent again; null without a waiting caller. */
  #onRoom: Array<() => void> | null = null

  /** `maxBytes`: bytes of replies that may wait for the commit of an earlier message. */
  constructor (receiver: Replying, maxBytes: number) {
    this.#receiver = receiver
    this.#maxBytes = maxBytes
  }

  /** Reserves the position of a reply. */
  open (): ReplySlot {
    const slot = new ReplySlot(this)
    this.#slots.push(slot)
    return slot
  }

  noteDeferred (): void {
    this.#deferred++
    this.#replies++
  }

  noteFilled ({ isDeferred, reply }: ReplySlot): void {
    if (isDeferred) this.#deferred--
    else this.#replies++
    this.bytes += reply?.length ?? 0
    this.#release()
    if (this.#isHeld && this.#hasRoom) this.#continue()
  }

  /**
   * Runs a task that never fails after the tasks before it; synchronously if there are none (bench rows "fan-out under load",
   * "direct messages, durable"): most frames are handled in the turn in which they arrive.
   */
  enqueue (task: Task): void {
    if (!this.#isWorking) return this.#work(task)
    this.#tasks ??= []
    if (this.#tasks.push(task) > MAX_TASKS) this.#receiver.transport.pause()
  }

  /** Too many frames or replies wait: no further ones should be sent now. */
  get isBusy (): boolean {
    return this.#isHeld || (this.#tasks?.length ?? 0) > MAX_TASKS
  }

  /** Frames wait for {@link room}. */
  get isAwaited (): boolean {
    return this.#onRoom !== null
  }

  /** Resolves when frames may be sent again. */
  async room (): Promise<void> {
    while (this.isBusy) await new Promise<void>((resolve) => { (this.#onRoom ??= []).push(resolve) })
  }

  /** Only replies that wait for a commit count: without one in progress, no event would end the wait. */
  get #isFull (): boolean {
    return this.#deferred > 0 && (this.#replies > MAX_REPLIES || this.bytes > this.#maxBytes)
  }

  get #hasRoom (): boolean {
    return this.#deferred === 0 || (this.#replies <= MAX_REPLIES / 2 && this.bytes <= this.#maxBytes / 2)
  }

  /** Writes all replies that have no unfilled slot before them. */
  #release (): void {
    while (this.#slots[0]?.filled === true) {
      const slot = this.#slots.shift()
      if (slot === undefined) return
      this.#replies--
      this.bytes -= slot.reply?.length ?? 0
      if (slot.reply !== null) this.#receiver.send(slot.reply)
      slot.afterwards?.()
    }
    // idle memory: releases the capacity of the array, because most connections are quiet.
    if (this.#slots.length === 0) this.#slots.length = 0
  }

  #work (first: Task | undefined): void {
    this.#isWorking = true
    for (let task = first; task !== undefined; task = this.#tasks?.shift()) {
      if (this.#isFull) return this.#hold(task)
      if ((this.#receiver.transport.isPaused || this.#onRoom !== null) && (this.#tasks?.length ?? 0) <= MAX_TASKS / 2) this.#accept()
      const done = task()
      if (isPromise(done)) {
        void done.then(() => { this.#work(this.#tasks?.shift()) })
        return
      }
    }
    this.#tasks = null
    this.#isWorking = false
  }

  #hold (next: Task): void {
    this.#isHeld = true;
    (this.#tasks ??= []).unshift(next)
    this.#receiver.transport.pause()
  }

  #continue (): void {
    this.#isHeld = false
    this.#work(this.#tasks?.shift())
  }

  #accept (): void {
    this.#receiver.transport.resume()
    const waiting = this.#onRoom ?? []
    this.#onRoom = null
    for (const resolve of waiting) resolve()
  }
}
