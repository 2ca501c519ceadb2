import type { Clock } from '../clock.js'
import { RealtimeError, type ErrorCode } from '../errors.js'
import type { Identity } from '../identity.js'
import type { Id } from '../ids.js'
import { userKey, type UserKey } from '../keys.js'

/** When and why a user is banned. */
interface Ban { until: number | null, reason: string | null }

/** Identities of a user that were issued before this time are refused, until the entry itself ends. */
interface Revocation { issuedBefore: number, until: number }

export interface Reason { code: ErrorCode, message?: string | undefined }

const REVOKED: Reason = { code: 'RT_TOKEN_REVOKED' }

/** Times of an identity are milliseconds or a Date. */
export const toMs = (time: number | Date): number => typeof time === 'number' ? time : time.getTime()

const issuedAt = (identity: Identity, shownAt: number): number =>
  identity.issuedAt === undefined || identity.issuedAt === null ? shownAt : toMs(identity.issuedAt)

/**
 * The bans and revocations in force, in memory: a check needs no I/O, and mostly two comparisons. Filled from the access log,
 * which is the same on every node.
 */
export class Restrictions {
  readonly #clock: Clock
  readonly #bans = new Map<UserKey, Ban>()
  readonly #users = new Map<UserKey, Revocation>()
  readonly #tokens = new Map<string, number>()

  constructor (clock: Clock) {
    this.#clock = clock
  }

  /** False if no user is banned, so that nothing must be checked before an upgrade. */
  get hasBans (): boolean {
    return this.#bans.size > 0
  }

  ban (tenantId: Id, userId: Id, ban: Ban): void {
    this.#bans.set(userKey(tenantId, userId), ban)
  }

  unban (tenantId: Id, userId: Id): void {
    this.#bans.delete(userKey(tenantId, userId))
  }

  revokeUser (tenantId: Id, userId: Id, revocation: Revocation): void {
    const key = userKey(tenantId, userId)
    const known = this.#users.get(key)
    // A later revocation never shortens an earlier one.
    this.#users.set(key, known === undefined
      ? revocation
      : { issuedBefore: Math.max(known.issuedBefore, revocation.issuedBefore), until: Math.max(known.until, revocation.until) })
  }

  revokeToken (tenantId: Id, tokenId: string, until: number): void {
    const key = `${tenantId}/${tokenId}`
    this.#tokens.set(key, Math.max(until, this.#tokens.get(key) ?? 0))
  }

  /** The error with which an identity is refused, or null; see `reason`. */
  refusal (identity: Identity, shownAt: number): RealtimeError | null {
    const reason = this.reason(identity, shownAt)
    return reason === null ? null : new RealtimeError(reason.code, reason.message)
  }

  /**
   * Why an identity is refused, or null, without the stack trace of an error: a decision may concern thousands. `shownAt` is the time of the authentication, which counts as the time
   * of issue if the host provides none.
   */
  reason (identity: Identity, shownAt: number): Reason | null {
    if (this.#bans.size > 0 || this.#users.size > 0) {
      const key = userKey(identity.tenantId, identity.userId)
      const ban = this.#bans.get(key)
      if (ban !== undefined && (ban.until === null || ban.until > this.#clock.now())) return { code: 'RT_BANNED', message: ban.reason ?? undefined }
      const revoked = this.#users.get(key)
      if (revoked !== undefined && issuedAt(identity, shownAt) < revoked.issuedBefore && revoked.until > this.#clock.now()) return REVOKED
    }
    if (this.#tokens.size > 0 && typeof identity.tokenId === 'string') {
      const until = this.#tokens.get(`${identity.tenantId}/${identity.tokenId}`)
      if (until !== undefined && until > this.#clock.now()) return REVOKED
    }
    return null
  }

  /** Removes expired entries. */
  expire (): void {
    const now = this.#clock.now()
    for (const [key, { until }] of this.#bans) if (until !== null && until <= now) this.#bans.delete(key)
    for (const [key, { until }] of this.#users) if (until <= now) this.#users.delete(key)
    for (const [key, until] of this.#tokens) if (until <= now) this.#tokens.delete(key)
  }
}
