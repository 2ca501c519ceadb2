import type { Redis } from 'ioredis'
import type { ConnectionLog } from './connect.js'
import { isTimeout, leadsElsewhere, NOT_CONNECTED, reasonOf, refusalOf } from './errors.js'

/** Milliseconds between two looks at the connections. */
const BEAT = 500
/**
 * A connection that receives nothing for this many beats is given up. Something is always asked of it: a ping at each
 * beat, its handshake before that. Counted in beats, not by the clock: a process that was itself stopped or busy runs no
 * beats, so its own delay is not held against Redis.
 */
const SILENT_BEATS = 5
/** A connection that receives bytes but does not become ready (a server that loads its data) is given up after this many. */
const UNREADY_BEATS = 8
/** A write is tried at every so many beats. */
const PROBE_BEATS = 2
/** Reasons that are logged during one outage. */
const MAX_REASONS = 5

/** What {@link RedisHealth} watches. */
export interface WatchedConnections {
  /** Every connection that is open or being opened. */
  all (): Redis[]
  /** Writes something by a script to every server that the suite writes to; rejects with Redis' error. */
  write (): Promise<void>
  /** Gives up the connection that wrote, because another server may be the right one by now. */
  leaveServer (): void
  /** Writes work again after a server was left: the other connections may still be at that one. */
  followServer (): void
}

/** What is known of one TCP connection. */
interface Watch {
  bytes: number
  silent: number
  unready: number
  pinging: boolean
}

/**
 * Knows whether Redis does what the suite needs, which is a write by a script, and gives up connections that are open but
 * dead: without it a host that vanished without a FIN is waited for until the kernel gives up, after many minutes.
 * One per node, shared by roster and backplane.
 */
export class RedisHealth {
  readonly #connections: WatchedConnections
  readonly #log: ConnectionLog
  readonly #watches = new WeakMap<object, Watch>()
  readonly #listeners: Array<(ok: boolean) => void> = []
  #timer: NodeJS.Timeout | null = null
  #beats = 0
  #probing = false
  #left = false
  #stopped = false
  /** Beats since the last answer to a write. */
  #unanswered = 0
  #reason: string | null = NOT_CONNECTED
  #since = performance.now()
  /** Logged since it last worked; null before it worked for the first time, when failures are the registration's to report. */
  #reasons: Set<string> | null = null

  constructor (connections: WatchedConnections, log: ConnectionLog) {
    this.#connections = connections
    this.#log = log
  }

  /** The last write worked. */
  get ok (): boolean {
    return this.#reason === null
  }

  /** Why it is not `ok`: the code of Redis' reply, or a sentence. */
  get reason (): string | null {
    return this.#reason
  }

  /** Calls the listener each time `ok` changes. */
  onChange (listener: (ok: boolean) => void): void {
    this.#listeners.push(listener)
  }

  start (): void {
    // Not an interval: after a stall of this process beats must not come in a row.
    const next = (): void => {
      this.#timer = setTimeout(() => {
        this.#beat()
        next()
      }, BEAT)
    }
    next()
  }

  /** From now on it is as it is: closing is no failure. */
  stop (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#stopped = true
    this.#listeners.length = 0
  }

  /** The connection that writes is gone. */
  lost (): void {
    this.#fail(NOT_CONNECTED)
  }

  /** An error of a connection, which alone means nothing while writes work. */
  error (err: Error): void {
    if (!this.ok) this.#fail(reasonOf(err))
  }

  /** Tries a write now, unless one is under way. */
  async probe (): Promise<void> {
    if (this.#probing) return
    this.#probing = true
    try {
      await this.#connections.write()
      this.#unanswered = 0
      this.#succeed()
    } catch (err) {
      const code = refusalOf(err)
      if (code !== null) this.#unanswered = 0
      // Otherwise the beats tell a timeout of Redis from a delay of this process.
      if (code !== null || !isTimeout(err)) this.#fail(reasonOf(err))
      if (!leadsElsewhere(code)) return
      this.#left = true
      this.#connections.leaveServer()
    } finally {
      this.#probing = false
    }
  }

  #beat (): void {
    for (const redis of this.#connections.all()) this.#look(redis)
    this.#unanswered++
    if (this.#unanswered >= SILENT_BEATS) this.#fail('no answer')
    if (this.#beats++ % PROBE_BEATS === 0) void this.probe()
  }

  #look (redis: Redis): void {
    // A connection has no stream before its first attempt, and while Sentinel is asked the old one.
    const stream = redis.stream as Redis['stream'] | undefined
    if (stream === undefined || stream.destroyed) return
    const watch = this.#watches.get(stream) ?? { bytes: -1, silent: 0, unready: 0, pinging: false }
    this.#watches.set(stream, watch)
    watch.silent = stream.bytesRead === watch.bytes ? watch.silent + 1 : 0
    watch.bytes = stream.bytesRead
    watch.unready = redis.status === 'ready' ? 0 : watch.unready + 1
    if (watch.silent >= SILENT_BEATS || watch.unready >= UNREADY_BEATS) {
      // Not disconnect(): it would say goodbye and wait two seconds for an answer.
      stream.destroy(new Error('Redis does not answer: the connection is given up'))
    } else if (redis.status === 'ready' && !watch.pinging) {
      watch.pinging = true
      const answered = (): void => { watch.pinging = false }
      redis.ping().then(answered, answered)
    }
  }

  #succeed (): void {
    if (this.#reason === null) return
    this.#reason = null
    if (this.#left) this.#connections.followServer()
    this.#left = false
    if (this.#reasons !== null) this.#log.info({ after: Math.round(performance.now() - this.#since) }, 'redis can be used again')
    this.#reasons = new Set()
    this.#tell()
  }

  /** Logs each reason once in an outage: a server that refuses, then is gone, then loads, gives three lines, not one a second. */
  #fail (reason: string): void {
    const wasOk = this.ok
    // Given up for a better reason, which goes on.
    if (this.#stopped || (!wasOk && reason === NOT_CONNECTED)) return
    this.#reason = reason
    if (wasOk) this.#since = performance.now()
    if (this.#reasons !== null && this.#reasons.size < MAX_REASONS && !this.#reasons.has(reason)) {
      this.#reasons.add(reason)
      this.#log.warn({ reason }, 'redis cannot be used')
    }
    if (wasOk) this.#tell()
  }

  #tell (): void {
    for (const listener of this.#listeners) listener(this.ok)
  }
}
