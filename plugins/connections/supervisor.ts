import type { FastifyBaseLogger } from 'fastify'
import { sleep } from '../../lib/async/timers.js'
import { toIso, type Clock } from '../../lib/clock.js'
import type { Hub } from '../../lib/delivery/hub.js'
import { expiryOf } from '../../lib/identity.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { encodeFrame, type ErrorData } from '../../lib/wire/protocol.js'
import type { Connection } from './connection.js'
import { CLOSE_TIMEOUT_MS, EXPIRY_WARNING_MS, FRAME_TIMEOUT_MS, type ConnectionSettings } from './options.js'
import type { TokenExpiring } from './schemas.js'

const CHECK_INTERVAL_MS = 1000
/** Minimum number of sockets closed at once while draining, and the pause between batches, so that clients do not all reconnect at the same time. */
const DRAIN_BATCH = 10
const DRAIN_PAUSE_MS = 50
/** Seconds after which clients should reconnect: one, or up to this many if many clients are disconnected. */
const RETRY_SECONDS = 3
/** Share of the time until the deadline for closing; the rest is for clients to respond. */
const DRAIN_SHARE = 0.6

/** Supervises all sockets and streams of this node with one timer: pings, timeouts, expiring credentials. Also drains them. */
export class Supervisor {
  readonly #connections = new Map<object, Connection>()
  readonly #settings: ConnectionSettings
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  /** Sockets on which a message has arrived in part, and since when. */
  readonly #incomplete = new Map<object, number>()
  readonly #timers: NodeJS.Timeout[] = []
  #empty: (() => void) | null = null
  /** New sockets are refused. */
  draining = false

  constructor (settings: ConnectionSettings, clock: Clock, log: FastifyBaseLogger) {
    this.#settings = settings
    this.#clock = clock
    this.#log = log
  }

  /** Sockets of this node, authenticated or not. */
  get size (): number {
    return this.#connections.size
  }

  start (hub: Hub, statsInterval: number): void {
    this.#timers.push(setInterval(() => { this.#checkAll() }, CHECK_INTERVAL_MS))
    if (statsInterval === 0) return
    this.#timers.push(setInterval(() => {
      this.#log.info({ connections: this.size, subscriptions: hub.size, delivered: hub.delivered }, 'Stats')
    }, statsInterval))
  }

  watch (connection: Connection): void {
    this.#connections.set(connection.transport.source, connection)
  }

  /** A message of this socket is complete. */
  noteMessage (source: object): void {
    if (this.#incomplete.size > 0) this.#incomplete.delete(source)
  }

  /** The connection of a WebSocket or a response that is watched. */
  of (source: object): Connection | undefined {
    return this.#connections.get(source)
  }

  forget (source: object): void {
    this.#incomplete.delete(source)
    this.#connections.delete(source)
    if (this.#connections.size === 0) this.#empty?.()
  }

  /**
   * Closes every socket with 1012, over `drainSeconds` if there are many, and destroys those left at the deadline (by
   * `performance.now()`). Before the close, each gets a `retryAfter`. Sockets that are still open are supervised until then.
   */
  async drain (deadline: number): Promise<void> {
    this.draining = true
    const span = Math.min(this.#settings.drainSeconds * 1000, Math.max(deadline - performance.now(), 0) * DRAIN_SHARE)
    const batch = Math.max(DRAIN_BATCH, Math.ceil(this.size * DRAIN_PAUSE_MS / Math.max(span, 1)))
    const goodbyes = Array.from({ length: this.size > batch ? RETRY_SECONDS : 1 }, (_, i) => goodbye(1 + i))
    let closing = 0
    // Includes sockets whose upgrade was in progress.
    for (const connection of this.#connections.values()) {
      if (closing > 0 && closing % batch === 0) await sleep(DRAIN_PAUSE_MS)
      connection.send(goodbyes[Math.floor(Math.random() * goodbyes.length)] as Buffer)
      connection.close(CloseCode.restarting, 'this node restarts')
      closing++
    }
    for (const timer of this.#timers) clearInterval(timer)
    if (this.#connections.size === 0) return
    const closed = new Promise<void>((resolve) => { this.#empty = resolve })
    const timer = setTimeout(() => {
      for (const connection of this.#connections.values()) connection.terminate()
    }, Math.min(Math.max(deadline - performance.now(), 0), CLOSE_TIMEOUT_MS))
    await closed
    clearTimeout(timer)
  }

  #checkAll (): void {
    const now = this.#clock.now()
    for (const connection of this.#connections.values()) {
      if (this.#isTooLong(connection, now)) connection.close(CloseCode.badFrames, 'a frame did not become complete')
      this.#check(connection, now)
    }
  }

  /** Whether a message has been incomplete for too long. */
  #isTooLong ({ transport }: Connection, now: number): boolean {
    const { source } = transport
    // A message cannot become complete while the socket is not read.
    if (transport.isPaused || !transport.isMidMessage) {
      this.#incomplete.delete(source)
      return false
    }
    const since = this.#incomplete.get(source)
    if (since === undefined) this.#incomplete.set(source, now)
    return since !== undefined && now - since >= FRAME_TIMEOUT_MS
  }

  #check (connection: Connection, now: number): void {
    const { phase } = connection
    if (phase.name === 'closing') {
      if (now - phase.since >= CLOSE_TIMEOUT_MS) connection.terminate()
      return
    }
    if (phase.name === 'opening') {
      if (now - phase.since >= this.#settings.authDeadline) connection.close(CloseCode.unauthenticated, 'not authenticated in time')
      return
    }
    const { session } = phase
    const expiresAt = expiryOf(session.identity)
    if (now >= expiresAt) {
      const data: ErrorData = { code: 'RT_TOKEN_EXPIRED', message: 'The credentials have expired: get a new token' }
      connection.send(encodeFrame('error', data))
      connection.close(CloseCode.unauthenticated, 'the token expired')
      return
    }
    if (!session.warned && now >= expiresAt - EXPIRY_WARNING_MS) {
      connection.markWarned()
      const data: TokenExpiring = { expiresAt: toIso(expiresAt) }
      connection.send(encodeFrame('token:expiring', data))
    }
    if (connection.isStuck(now)) {
      connection.close(CloseCode.tooSlow, 'too slow')
      return
    }
    if (now - connection.pingedAt < this.#settings.pingInterval) return
    // No response to several pings: the client is gone, even if TCP has not noticed.
    if (connection.missedPings >= connection.transport.patience) connection.terminate()
    else connection.ping(now)
  }
}

function goodbye (retryAfter: number): Buffer {
  const data: ErrorData = { code: 'RT_UNAVAILABLE', message: 'This node restarts: connect again', retryAfter }
  return encodeFrame('error', data)
}
