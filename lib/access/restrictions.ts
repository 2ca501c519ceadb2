import type { Clock } from '../clock.js'
import { RealtimeError } from '../errors.js'
import type { Identity } from '../identity.js'
import { userKey, type UserKey } from '../keys.js'

/** When and why a user is banned. */
interface Ban { until: number | null, reason: string | null }

/** Identities of a user that were issued before this time are refused, until the entry itself ends. */
interface Revocation { issuedBefore: number, until: number }

/** Times of an identity come as milliseconds or as a Date. */
export const toMs = (time: number | Date): number => typeof time === 'number' ? time : time.getTime()

/**
 * The bans and revocations in force, in memory: a check costs no I/O, and mostly two comparisons. Filled from the access
 * log, which is the same on every node.
 */
export class Restrictions {
  readonly #clock: Clock
  readonly #bans = new Map<UserKey, Ban>()
  readonly #users = new Map<UserKey, Revocation>()
  readonly #tokens = new Map<string, number>()

  constructor (clock: Clock) {
    this.#clock = clock
  }

  /** False: nobody is banned, so that nothing need be asked before a socket is opened. */
  get hasBans (): boolean {
    return this.#bans.size > 0
  }

  ban (tenantId: number, userId: number, ban: Ban): void {
    this.#bans.set(userKey(tenantId, userId), ban)
  }

  unban (tenantId: number, userId: number): void {
    this.#bans.delete(userKey(tenantId, userId))
  }

  revokeUser (tenantId: number, userId: number, revocation: Revocation): void {
    const key = userKey(tenantId, userId)
    const known = this.#users.get(key)
    // A later call never lets back in what an earlier one refused.
    this.#users.set(key, known === undefined
      ? revocation
      : { issuedBefore: Math.max(known.issuedBefore, revocation.issuedBefore), until: Math.max(known.until, revocation.until) })
  }

  revokeToken (tenantId: number, tokenId: string, until: number): void {
    const key = `${tenantId}/${tokenId}`
    this.#tokens.set(key, Math.max(until, this.#tokens.get(key) ?? 0))
  }

  /**
   * Why this identity is refused, or null. `shownAt` is when its credentials were shown, which counts as the time of issue
   * where the host gives none.
   */
  refusal (identity: Identity, shownAt: number): RealtimeError | null {
    if (this.#bans.size > 0) {
      const ban = this.#bans.get(userKey(identity.tenantId, identity.userId))
      if (ban !== undefined && (ban.until === null || ban.until > this.#clock.now())) {
        return new RealtimeError('RT_BANNED', ban.reason ?? undefined)
      }
    }
    if (this.#users.size > 0) {
      const revoked = this.#users.get(userKey(identity.tenantId, identity.userId))
      const issuedAt = identity.issuedAt === undefined || identity.issuedAt === null ? shownAt : toMs(identity.issuedAt)
      if (revoked !== undefined && issuedAt < revoked.issuedBefore && revoked.until > this.#clock.now()) return new RealtimeError('RT_TOKEN_REVOKED')
    }
    if (this.#tokens.size > 0 && typeof identity.tokenId === 'string') {
      const until = this.#tokens.get(`${identity.tenantId}/${identity.tokenId}`)
      if (until !== undefined && until > this.#clock.now()) return new RealtimeError('RT_TOKEN_REVOKED')
    }
    return null
  }

  /** Forgets what has ended. */
  expire (): void {
    const now = this.#clock.now()
    for (const [key, { until }] of this.#bans) if (until !== null && until <= now) this.#bans.delete(key)
    for (const [key, { until }] of this.#users) if (until <= now) this.#users.delete(key)
    for (const [key, until] of this.#tokens) if (until <= now) this.#tokens.delete(key)
  }
}
