import { createHash } from 'node:crypto'
import { BoundedMap } from '../async/bounded-map.js'
import { addressKey, isPrivateAddress } from './address.js'

const MINUTE = 60_000
/** A credential that was refused is refused again for this long without asking the host. */
const REFUSED_FOR = 10_000
/** Credentials that were accepted this recently are not slowed down by what others try from the same address. */
const ACCEPTED_FOR = 10 * MINUTE
/** Bounds of what is remembered; beyond them the oldest are forgotten. */
const MAX_REFUSED = 10_000
const MAX_ACCEPTED = 100_000
const MAX_ADDRESSES = 50_000

/**
 * Who guesses credentials is slowed down, by client address and node: beyond a rate of failures `authenticate` is asked for
 * that address one call at a time. Credentials that were accepted lately are never affected, so that an office behind one
 * address goes on working while somebody there guesses.
 */
export class FailedAuthentications {
  readonly #perMinute: number
  readonly #failures = new BoundedMap<string, { count: number, since: number }>(MAX_ADDRESSES)
  readonly #refused = new BoundedMap<string, number>(MAX_REFUSED)
  readonly #accepted = new BoundedMap<string, number>(MAX_ACCEPTED)

  /** Failures of one address within a minute before it is slowed down; 0: no limit. */
  constructor (perMinute: number) {
    this.#perMinute = perMinute
  }

  /** The address as limits count it; null for loopback and private addresses, which are not limited. */
  limitedAddress (address: string): string | null {
    return isPrivateAddress(address) ? null : addressKey(address)
  }

  /** This credential was refused a moment ago. */
  wasRefused (credential: string | undefined): boolean {
    if (credential === undefined || this.#refused.size === 0) return false
    const until = this.#refused.get(fingerprint(credential))
    return until !== undefined && until > performance.now()
  }

  /** Too many failures came from this address, and this credential is not one that was accepted lately. */
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
    // Where no limit by address holds nothing need be remembered.
    if (address === null || credential === undefined || this.#perMinute === 0) return
    this.#accepted.set(fingerprint(credential), performance.now() + ACCEPTED_FOR)
  }
}

/** Credentials are not kept in memory as they are. */
const fingerprint = (credential: string): string => createHash('sha256').update(credential).digest('base64')
