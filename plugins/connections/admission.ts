import type { FastifyBaseLogger } from 'fastify'
import { clientAddress } from '../../lib/access/address.js'

export interface AdmissionSettings {
  /** Open sockets of one address. */
  maxPerAddress: number
  /** Sockets of one address that are not authenticated yet. */
  maxPendingPerAddress: number
  /** Whether both hold for loopback and private addresses too. */
  limitPrivateAddresses: boolean
  /** Upgrades per second of this node. */
  connectRate: number
  /** Sockets of this node. */
  maxSockets: number
}

/** Why an upgrade is refused: the HTTP status, and seconds until another try makes sense. */
export interface AdmissionRefusal { status: 429 | 503, retryAfter: number, message: string }

interface AddressCounts { readonly key: string, readonly isPrivate: boolean, open: number, pending: number }

/** A socket's place; give it back when the socket is closed. */
export class Place {
  readonly #counts: AddressCounts
  readonly #onReleased: (counts: AddressCounts) => void
  #state: 'pending' | 'authenticated' | 'released' = 'pending'

  constructor (counts: AddressCounts, onReleased: (counts: AddressCounts) => void) {
    this.#counts = counts
    this.#onReleased = onReleased
  }

  /** The socket no longer counts as pending. */
  authenticated (): void {
    if (this.#state !== 'pending') return
    this.#state = 'authenticated'
    this.#counts.pending--
  }

  release (): void {
    if (this.#state === 'released') return
    if (this.#state === 'pending') this.#counts.pending--
    this.#state = 'released'
    this.#counts.open--
    this.#onReleased(this.#counts)
  }
}

const WARN_INTERVAL = 3600_000
/** Number of sockets from which on it is suspicious that one address has most of them. */
const WARN_FROM = 100

/**
 * Limits the sockets of this node: per client address, per second, and in total. 0 means no limit.
 */
export class Admission {
  readonly #settings: AdmissionSettings
  readonly #log: Pick<FastifyBaseLogger, 'warn'>
  readonly #addresses = new Map<string, AddressCounts>()
  #open = 0
  /** Upgrades that may still be admitted, refilled with time. */
  #tokens: number
  #refilledAt = performance.now()
  #warnedAt = -Infinity

  constructor (settings: AdmissionSettings, log: Pick<FastifyBaseLogger, 'warn'>) {
    this.#settings = settings
    this.#log = log
    this.#tokens = settings.connectRate
  }

  /** Takes a place for an upgrade from this address, or returns why it is refused. */
  admit (address: string): Place | AdmissionRefusal {
    const { maxPerAddress, maxPendingPerAddress, limitPrivateAddresses, maxSockets } = this.#settings
    if (maxSockets > 0 && this.#open >= maxSockets) return busy('This node has as many connections as it takes')
    const { key, isPrivate } = clientAddress(address)
    const counts = this.#addresses.get(key) ?? { key, isPrivate, open: 0, pending: 0 }
    if (limitPrivateAddresses || !counts.isPrivate) {
      if (maxPerAddress > 0 && counts.open >= maxPerAddress) return tooMany('Too many connections from this address')
      if (maxPendingPerAddress > 0 && counts.pending >= maxPendingPerAddress) return tooMany('Too many connections from this address are not authenticated yet')
    }
    if (!this.#takeToken()) return busy('This node takes no more connections right now')
    this.#open++
    counts.open++
    counts.pending++
    this.#addresses.set(key, counts)
    this.#warnOfOneAddress(counts.open)
    return new Place(counts, this.#onReleased)
  }

  readonly #onReleased = (counts: AddressCounts): void => {
    this.#open--
    if (counts.open === 0) this.#addresses.delete(counts.key)
  }

  #takeToken (): boolean {
    const { connectRate } = this.#settings
    if (connectRate === 0) return true
    const now = performance.now()
    this.#tokens = Math.min(connectRate, this.#tokens + (now - this.#refilledAt) / 1000 * connectRate)
    this.#refilledAt = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }

  /** Behind a proxy that Fastify does not know of, every client has the proxy's address. */
  #warnOfOneAddress (open: number): void {
    if (this.#open < WARN_FROM || open * 2 <= this.#open) return
    const now = performance.now()
    if (now - this.#warnedAt < WARN_INTERVAL) return
    this.#warnedAt = now
    this.#log.warn({ sockets: this.#open, fromOneAddress: open },
      'one address holds more than half of the sockets: behind a proxy, set Fastify’s trustProxy')
  }
}

export const isRefusal = (outcome: Place | AdmissionRefusal): outcome is AdmissionRefusal => !(outcome instanceof Place)

const tooMany = (message: string): AdmissionRefusal => ({ status: 429, retryAfter: jitter(), message })
const busy = (message: string): AdmissionRefusal => ({ status: 503, retryAfter: jitter(), message })

/** Random, so that clients do not all return at once. */
const jitter = (): number => 1 + Math.floor(Math.random() * 10)
