import type { Redis } from 'ioredis'
import type { ConnectionLog } from './connect.js'
import { isTimeout, mayDifferOnReconnect, NO_RESPONSE, NOT_CONNECTED, reasonOf, refusalOf } from './errors.js'

/** Milliseconds between two checks of the connections. */
const CHECK_INTERVAL_MS = 500
/**
 * A connection that receives nothing during this many checks is given up. It always has a response to expect: to the ping of
 * each check, or to its handshake. Checks are counted instead of time, because a process that was stopped or busy makes no
 * checks and must not blame its own delay on Redis.
 */
const MAX_SILENT_CHECKS = 5
/** A connection that receives bytes and does not become ready (the server is loading its data) is given up after this many checks. */
const MAX_UNREADY_CHECKS = 8
/** Every second check tries a write. */
const CHECKS_PER_PROBE = 2
/** Reasons that are logged in one outage, at most. */
const MAX_LOGGED_REASONS = 5

/** The connections that {@link RedisHealth} watches. */
export interface WatchedConnections {
  /** All connections that are open or being opened. */
  all (): Redis[]
  /** Writes with a script to every server that fastify-realtime uses; rejects with Redis' error. */
  write (): Promise<void>
  /** Closes the connection that wrote: another server may be the right one now. */
  leaveServer (): void
  /** Closes the other connections after writes work again on another server: they may still lead to the old one. */
  followServer (): void
}

/** The state of one TCP connection. */
interface Watch {
  bytes: number
  silent: number
  unready: number
  pinging: boolean
}

/**
 * Checks whether Redis accepts writes by scripts, and closes connections that are open but dead: otherwise a server that
 * vanished without a FIN would be noticed only when the kernel gives up, after many minutes. Roster and backplane of a node
 * share one.
 */
export class RedisHealth {
  readonly #connections: WatchedConnections
  readonly #log: ConnectionLog
  readonly #watches = new WeakMap<object, Watch>()
  readonly #listeners: Array<(ok: boolean) => void> = []
  #timer: NodeJS.Timeout | null = null
  #checks = 0
  #isProbing = false
  #hasLeftServer = false
  #isStopped = false
  /** Checks since the last response to a write. */
  #checksWithoutResponse = 0
  #reason: string | null = NOT_CONNECTED
  #since = performance.now()
  /** Reasons logged in this outage; null before the first success, because the registration reports those failures. */
  #loggedReasons: Set<string> | null = null

  constructor (connections: WatchedConnections, log: ConnectionLog) {
    this.#connections = connections
    this.#log = log
  }

  /** The last write succeeded. */
  get ok (): boolean {
    return this.#reason === null
  }

  /** Why `ok` is false: the code of Redis' reply, or a text. */
  get reason (): string | null {
    return this.#reason
  }

  /** Calls the listener each time `ok` changes. */
  onChange (listener: (ok: boolean) => void): void {
    this.#listeners.push(listener)
  }

  start (): void {
    // Not an interval: after a stall of the process, several checks would run at once.
    const next = (): void => {
      this.#timer = setTimeout(() => {
        this.#check()
        next()
      }, CHECK_INTERVAL_MS)
    }
    next()
  }

  /** After this, closed connections do not count as failures. */
  stop (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#isStopped = true
    this.#listeners.length = 0
  }

  /** To be called when the connection for commands is lost. */
  lost (): void {
    this.#fail(NOT_CONNECTED)
  }

  /** To be called with errors of connections; while writes work they are ignored. */
  error (err: Error): void {
    if (!this.ok) this.#fail(reasonOf(err))
  }

  /** Tries a write, unless one is in progress. */
  async probe (): Promise<void> {
    if (this.#isProbing) return
    this.#isProbing = true
    try {
      await this.#connections.write()
      this.#checksWithoutResponse = 0
      this.#succeed()
    } catch (err) {
      const code = refusalOf(err)
      if (code !== null) this.#checksWithoutResponse = 0
      // For timeouts, the checks decide whether Redis or this process is slow.
      if (code !== null || !isTimeout(err)) this.#fail(reasonOf(err))
      if (!mayDifferOnReconnect(code)) return
      this.#hasLeftServer = true
      this.#connections.leaveServer()
    } finally {
      this.#isProbing = false
    }
  }

  #check (): void {
    for (const redis of this.#connections.all()) this.#checkConnection(redis)
    this.#checksWithoutResponse++
    if (this.#checksWithoutResponse >= MAX_SILENT_CHECKS) this.#fail(NO_RESPONSE)
    if (this.#checks++ % CHECKS_PER_PROBE === 0) void this.probe()
  }

  #checkConnection (redis: Redis): void {
    // Before the first attempt there is no stream; while Sentinel is asked, it is the old one.
    const stream = redis.stream as Redis['stream'] | undefined
    if (stream === undefined || stream.destroyed) return
    const watch = this.#watches.get(stream) ?? { bytes: -1, silent: 0, unready: 0, pinging: false }
    this.#watches.set(stream, watch)
    watch.silent = stream.bytesRead === watch.bytes ? watch.silent + 1 : 0
    watch.bytes = stream.bytesRead
    watch.unready = redis.status === 'ready' ? 0 : watch.unready + 1
    if (watch.silent >= MAX_SILENT_CHECKS || watch.unready >= MAX_UNREADY_CHECKS) {
      // Not disconnect(): it would wait two seconds for the server to close the connection.
      stream.destroy(new Error('Redis does not respond'))
    } else if (redis.status === 'ready' && !watch.pinging) {
      watch.pinging = true
      const answered = (): void => { watch.pinging = false }
      redis.ping().then(answered, answered)
    }
  }

  #succeed (): void {
    if (this.#reason === null) return
    this.#reason = null
    if (this.#hasLeftServer) this.#connections.followServer()
    this.#hasLeftServer = false
    if (this.#loggedReasons !== null) this.#log.info({ outageMs: Math.round(performance.now() - this.#since) }, 'Redis accepts writes again')
    this.#loggedReasons = new Set()
    this.#notify()
  }

  /** Logs each reason once in an outage: a server that rejects writes, then is away, then loads its data gives three lines, not one per second. */
  #fail (reason: string): void {
    const wasOk = this.ok
    // A lost connection does not replace the reason for which it was given up.
    if (this.#isStopped || (!wasOk && reason === NOT_CONNECTED)) return
    this.#reason = reason
    if (wasOk) this.#since = performance.now()
    if (this.#loggedReasons !== null && this.#loggedReasons.size < MAX_LOGGED_REASONS && !this.#loggedReasons.has(reason)) {
      this.#loggedReasons.add(reason)
      this.#log.warn({ reason }, 'Redis does not accept writes')
    }
    if (wasOk) this.#notify()
  }

  #notify (): void {
    for (const listener of this.#listeners) listener(this.ok)
  }
}
