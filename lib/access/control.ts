import type { FastifyRequest } from 'fastify'
import type { MaybePromise } from '../async/maybe-promise.js'
import type { Clock } from '../clock.js'
import type { AccessRequest } from '../host-functions.js'
import { isTime, type Identity } from '../identity.js'
import type { Id, Ids } from '../ids.js'
import { requireChannel, requireId, wrongArgument } from '../wire/host-arguments.js'
import type { Access } from './access.js'
import type { AccessLog, AccessResult } from './log.js'
import { toMs } from './restrictions.js'

/** The default time for which a revocation is kept: longer than any credentials should be valid. */
const REVOKED_FOR_MS = 30 * 24 * 3600_000
const MAX_REASON = 255

/** A Date, or milliseconds since 1970. */
export type Time = number | Date

/** The credentials to revoke: those of a user issued before a time, or one token. */
export type Revocation = { tenantId: Id, until?: Time } & (
  | { userId: Id, issuedBefore?: Time, tokenId?: never }
  | { tokenId: string, userId?: never, issuedBefore?: never })

/**
 * `app.realtime.access`: calls the host's functions as the plugins do, and revokes rights of connected users. Decisions apply on
 * every node immediately, and are stored. They resolve within 2 s with the number of affected connections, and whether every
 * node has responded; other nodes follow as soon as they can. Invalid arguments reject with `RT_INVALID_DATA`.
 */
export interface AccessControl {
  /** The identity behind a token, or null. Throws, or rejects with, `RT_TOKEN_EXPIRED`, `RT_BANNED`, `RT_TOKEN_REVOKED`, `RT_UNAVAILABLE`. */
  identify (token: string | undefined, request: FastifyRequest): MaybePromise<Identity | null>
  /** Throws, or rejects with, `RT_UNAVAILABLE` where `authorize` fails. */
  allows (request: AccessRequest): MaybePromise<boolean>
  /** Throws, or rejects with, `RT_FORBIDDEN`, `RT_RATE_LIMITED` or `RT_UNAVAILABLE`. */
  require (request: AccessRequest): MaybePromise<void>
  /** Calls `authorize` again for the affected live subscriptions, and revokes those it refuses. If it fails they stay: `complete: false`. */
  recheck (which: { tenantId: Id, userId?: Id | null, channel?: string | null }): Promise<AccessResult>
  /** Closes every connection of a user with 4403, and refuses the user with `RT_BANNED` until `until`, or until `unban`. */
  ban (ban: { tenantId: Id, userId: Id, until?: Time | null, reason?: string | null }): Promise<AccessResult>
  unban (user: { tenantId: Id, userId: Id }): Promise<AccessResult>
  /**
   * Refuses credentials with `RT_TOKEN_REVOKED`: those of a user that were issued before a time (now unless given), or those
   * with a `tokenId`. Live connections close with 4401. Kept for 30 days unless `until` is given.
   */
  revoke (revocation: Revocation): Promise<AccessResult>
}

export function createAccessControl (access: Access, accessLog: AccessLog, ids: Ids, clock: Clock): AccessControl {
  // The end of this caller is not known: the timeout frees its place.
  const ofHost = ({ identity, ...question }: AccessRequest) => [{ identity, connectionId: null, owner: {} }, question] as const
  return {
    identify: (token, request) => access.identify(token, request, {}),
    allows: (request) => access.allows(...ofHost(request)),
    require: (request) => access.require(...ofHost(request)),
    recheck: async ({ tenantId, userId, channel }) => {
      requireId(ids, tenantId, 'tenantId')
      if (userId !== undefined && userId !== null) requireId(ids, userId, 'userId')
      if (channel !== undefined && channel !== null) requireChannel(ids, channel)
      return await accessLog.record({ kind: 'recheck', tenantId, userId: userId ?? null, channel: channel ?? null })
    },
    ban: async ({ tenantId, userId, until, reason }) => {
      requireId(ids, tenantId, 'tenantId')
      requireId(ids, userId, 'userId')
      if (reason !== undefined && reason !== null && typeof reason !== 'string') throw wrongArgument('reason', 'is not a text')
      return await accessLog.record({
        kind: 'ban', tenantId, userId, until: until === undefined || until === null ? null : timeOf(until, 'until'), reason: reason?.slice(0, MAX_REASON) ?? null
      })
    },
    unban: async ({ tenantId, userId }) => {
      requireId(ids, tenantId, 'tenantId')
      requireId(ids, userId, 'userId')
      return await accessLog.record({ kind: 'unban', tenantId, userId })
    },
    revoke: async ({ tenantId, userId, tokenId, issuedBefore, until: given }) => {
      requireId(ids, tenantId, 'tenantId')
      const now = clock.now()
      const until = given === undefined ? now + REVOKED_FOR_MS : timeOf(given, 'until')
      if (tokenId !== undefined) {
        if (typeof tokenId !== 'string' || tokenId.length === 0 || tokenId.length > 255) throw wrongArgument('tokenId', 'is not a text of 1 to 255 characters')
        if (userId !== undefined) throw wrongArgument('userId', 'cannot be combined with tokenId: revoke one after the other')
        return await accessLog.record({ kind: 'revoke', tenantId, tokenId, until })
      }
      requireId(ids, userId, 'userId')
      return await accessLog.record({ kind: 'revoke', tenantId, userId, issuedBefore: issuedBefore === undefined ? now : timeOf(issuedBefore, 'issuedBefore'), until })
    }
  }
}

/** Throws `RT_INVALID_DATA`, which names the argument. */
function timeOf (time: Time, name: string): number {
  if (!isTime(time)) throw wrongArgument(name, 'is not a Date or milliseconds since 1970')
  return Math.trunc(toMs(time))
}
