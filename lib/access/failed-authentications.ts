import { createHash } from 'node:crypto'
import { BoundedMap } from '../async/bounded-map.js'
import { clientAddress } from './address.js'

const MINUTE = 60_000
/** Time for which a refused credential is refused again without calling the host. */
const REFUSED_FOR = 10_000
/** Credentials that were accepted within this time are not slowed down by failures from the same address. */
const ACCEPTED_FOR = 10 * MINUTE
/** Maximum numbers of entries; beyond them the oldest are removed. */
const MAX_REFUSED = 10_000
const MAX_ACCEPTED = 100_000
const MAX_ADDRESSES = 50_000

/**
 * Slows down clients that guess credentials, per address and node: beyond a rate of failures, `authenticate` is called for the
 * address one call at a time. Credentials that were accepted recently are not affected, so that an office behind one address
 * can keep working while one of its clients guesses.
 */
export class FailedAuthentications {
  /** Whether loopback and private addresses are limited, too. Set by the connections plugin. */
  limitPrivateAddresses = false
  readonly #perMinute: number
  readonly #failures = new BoundedMap<string, { count: number, since: number }>(MAX_ADDRESSES)
  readonly #refused = new BoundedMap<string, number>(MAX_REFUSED)
  readonly #accepted = new BoundedMap<string, number>(MAX_ACCEPTED)

  /** Failures of one address within a minute before it is slowed down; 0: no limit. */
  constructor (perMinute: number) {
    this.#perMinute = perMinute
  }

  /** The address as limits count it; null for loopback and private addresses, unless these are limited, too. */
  limitedAddress (address: string): string | null {
    const { key, isPrivate } = clientAddress(address)
    return isPrivate && !this.limitPrivateAddresses ? null : key
  }

  /** Whether this credential was refused a moment ago. */
  wasRefused (credential: string | undefined): boolean {
    if (credential === undefined || this.#refused.size === 0) return false
    const until = this.#refused.get(fingerprint(credential))
    return until !== undefined && until > performance.now()
  }

  /** Whether there were too many failures from this address, and this credential was not accepted recently. */
  isSuspect (address: string | null, credential: string | undefined): boolean {
    if (address === null || this.#perMinute === 0 || this.#failures.size === 0) return false
    const failures = this.#failures.get(address)
    const now = performance.now()
    if (failures === undefined || now - failures.since >= MINUTE || failures.count < this.#perMinute) return false
    const until = credential === undefined ? undefined : this.#accepted.get(fingerprint(credential))
    return until === undefined || until <= now
  }

  refused (address: string | null, credential: string | undefined): void {
    const now = performance.now()
    if (credential !== undefined) this.#refused.set(fingerprint(credential), now + REFUSED_FOR)
    if (address === null || this.#perMinute === 0) return
    const failures = this.#failures.get(address)
    if (failures !== undefined && now - failures.since < MINUTE) failures.count++
    else this.#failures.set(address, { count: 1, since: now })
  }

  accepted (address: string | null, credential: string | undefined): void {
    // Nothing must be remembered for an address without a limit.
    if (address === null || credential === undefined || this.#perMinute === 0) return
    this.#accepted.set(fingerprint(credential), performance.now() + ACCEPTED_FOR)
  }
}

/** Credentials are kept in memory as hashes only. */
const fingerprint = (credential: string): string => createHash('sha256').update(credential).digest('base64')
