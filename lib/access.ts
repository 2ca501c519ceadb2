import { EventEmitter } from 'node:events'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { FailedAuthentications } from './access/failed-authentications.js'
import { HostCalls, notNow, type Asker } from './access/host-calls.js'
import type { AccessLog, AccessResult } from './access/log.js'
import { toMs, type Restrictions } from './access/restrictions.js'
import { ThrottledLog } from './async/throttled-log.js'
import { BROADCAST_CHANNEL, PRESENCE_CHANNEL, privateChannel } from './channels.js'
import type { Clock } from './clock.js'
import { RealtimeError } from './errors.js'
import type { Caller, Identity } from './identity.js'
import { andThen, orElse, type Maybe } from './maybe.js'
import type { AccessRequest, Authenticate, Authorize, AuthorizeMany, Verdict } from './options.js'

/** What is allowed without a host's word: direct messages inside the tenant. (Own channels: see `allows`.) */
export const defaultAuthorize: Authorize = ({ action }) => action === 'direct'

/** How long a revocation is kept unless the host says otherwise: longer than any credentials should live. */
const REVOKED_FOR = 30 * 24 * 3600_000

export interface AccessOptions {
  authenticate: Authenticate
  authorize?: Authorize | undefined
  authorizeMany?: AuthorizeMany | undefined
  /** Calls under way at once, of each of the two kinds. */
  concurrency: number
  /** Milliseconds until a host function counts as not answering. */
  timeout: number
  restrictions: Restrictions
  accessLog: AccessLog
  failures: FailedAuthentications
  clock: Clock
  log: FastifyBaseLogger
}

/** Who asks for what: the identity is the caller's. */
export type Question = Omit<AccessRequest, 'identity'>

/** Who someone is and what they may do: the host's functions, and its decisions about live connections. */
export class Access {
  readonly #options: AccessOptions
  /** Two lanes: an `authenticate` that hangs must not keep those who are known from subscribing. */
  readonly #authentication: HostCalls
  readonly #authorization: HostCalls
  readonly #throttled: ThrottledLog
  readonly failures: FailedAuthentications

  constructor (options: AccessOptions) {
    this.#options = options
    const lane = { places: options.concurrency, timeout: options.timeout }
    this.#authentication = new HostCalls(lane)
    this.#authorization = new HostCalls(lane)
    this.#throttled = new ThrottledLog(options.log)
    this.failures = options.failures
  }

  /**
   * The identity behind the credentials, or null; at once where the host answers at once. `owner` is what waits, the
   * connection or the HTTP response. Throws `RT_TOKEN_EXPIRED`, `RT_BANNED`, `RT_TOKEN_REVOKED`, `RT_UNAVAILABLE`, or
   * `RT_INTERNAL` where the host returned something that is no identity.
   */
  identify (token: string | undefined, request: FastifyRequest, owner: object): Maybe<Identity | null> {
    const { failures } = this
    if (failures.wasRefused(token)) return null
    const holder = failures.limitedAddress(request.ip)
    const asker = this.#follow({ owner, tenant: holder ?? '', holder, suspect: failures.isSuspect(holder, token) })
    const answer = orElse(() => this.#authentication.run(asker, () => this.#options.authenticate({ token, request })),
      (err) => this.#failed('authenticate', err))
    return andThen(answer, (identity) => {
      try {
        const checked = this.#checked(identity)
        if (checked !== null) failures.accepted(holder, token)
        // Without credentials nothing was guessed.
        else if (token !== undefined) failures.refused(holder, token)
        return checked
      } catch (err) {
        if (err instanceof RealtimeError && err.code === 'RT_TOKEN_REVOKED') failures.refused(holder, undefined)
        throw err
      }
    })
  }

  #checked (identity: Identity | null | undefined): Identity | null {
    if (identity === null || identity === undefined) return null
    const problem = problemOf(identity)
    if (problem !== null) {
      this.#throttled.write('error', problem, 'authenticate returned an identity with a field of the wrong kind')
      throw new RealtimeError('RT_INTERNAL', undefined, { retryAfter: 60 })
    }
    const now = this.#options.clock.now()
    if (identity.expiresAt !== undefined && identity.expiresAt !== null && toMs(identity.expiresAt) <= now) throw new RealtimeError('RT_TOKEN_EXPIRED')
    const refusal = this.#options.restrictions.refusal(identity, now)
    if (refusal !== null) throw refusal
    return identity
  }

  /** Asks for a subscription before its turn comes. The answer belongs to the frame and connection that ask, and is used for nothing else. */
  prefetch (caller: Caller, channel: string): Maybe<Verdict> {
    const answer = this.verdict(caller, { action: 'subscribe', channel })
    // Looked at when its turn comes; a socket that closes first looks at nothing.
    if (answer instanceof Promise) answer.catch(() => {})
    return answer
  }

  /** What the host says. In this turn where its function answers in this turn. Throws, or rejects with, `RT_UNAVAILABLE`. */
  verdict (caller: Caller, question: Question): Maybe<Verdict> {
    const { identity } = caller
    if (question.action === 'subscribe' && isOwn(identity, question.channel)) return true
    const authorize = this.#options.authorize ?? defaultAuthorize
    return orElse(() => this.#authorization.run(this.#askerOf(caller), () => authorize({ identity, ...question })),
      (err) => this.#failed('authorize', err))
  }

  /** One verdict per channel, by `authorizeMany` where the host has it. */
  verdicts (caller: Caller, channels: string[]): Maybe<Array<Maybe<Verdict>>> {
    const { identity } = caller
    const { authorizeMany } = this.#options
    const asked = channels.filter((channel) => !isOwn(identity, channel))
    if (authorizeMany === undefined || asked.length < 2) return channels.map((channel) => this.prefetch(caller, channel))
    const answer = orElse(() => this.#authorization.run(this.#askerOf(caller), () => authorizeMany({ identity, action: 'subscribe', channels: asked })),
      (err) => this.#failed('authorizeMany', err))
    return andThen(answer, (found) => {
      if (!Array.isArray(found) || found.length !== asked.length) {
        this.#throttled.write('error', { expected: asked.length }, 'authorizeMany must return one answer per channel')
        throw new RealtimeError('RT_INTERNAL')
      }
      const byChannel = new Map(asked.map((channel, i) => [channel, found[i] ?? false]))
      return channels.map((channel) => byChannel.get(channel) ?? true)
    })
  }

  /** Asks any other host function in the caller's name, within its share of the places. Throws, or rejects with, `RT_UNAVAILABLE`. */
  ask<T> (caller: Caller, name: string, call: () => Maybe<T>): Maybe<T> {
    return orElse(() => this.#authorization.run(this.#askerOf(caller), call), (err) => this.#failed(name, err))
  }

  /** True or false, without a reason. Throws, or rejects with, `RT_UNAVAILABLE`. */
  allows (caller: Caller, question: Question): Maybe<boolean> {
    return andThen(this.verdict(caller, question), isYes)
  }

  /** Throws, or rejects with, `RT_FORBIDDEN`, `RT_RATE_LIMITED` (slow mode) or `RT_UNAVAILABLE`. */
  require (caller: Caller, question: Question, prefetched?: Maybe<Verdict>): Maybe<void> {
    return andThen(prefetched ?? this.verdict(caller, question), requireYes)
  }

  /** What waited for a host function is gone: its places are free for others. */
  release (owner: object): void {
    this.#authentication.release(owner)
    this.#authorization.release(owner)
  }

  /** Asks `authorize` again for the live subscriptions concerned, on every node; those refused are revoked. */
  async recheck ({ tenantId, userId = null, channel = null }: { tenantId: number, userId?: number | null, channel?: string | null }): Promise<AccessResult> {
    return await this.#options.accessLog.record({ kind: 'recheck', tenantId, userId, channel })
  }

  /** Closes every connection of a user with 4403 and refuses the user from now on, until `until` or `unban`. */
  async ban ({ tenantId, userId, until, reason }: { tenantId: number, userId: number, until?: number | Date | null, reason?: string | null }): Promise<AccessResult> {
    return await this.#options.accessLog.record({
      kind: 'ban', tenantId, userId, until: until === undefined || until === null ? null : toMs(until), reason: reason?.slice(0, 255) ?? null
    })
  }

  async unban ({ tenantId, userId }: { tenantId: number, userId: number }): Promise<AccessResult> {
    return await this.#options.accessLog.record({ kind: 'unban', tenantId, userId })
  }

  /** Refuses credentials that were issued before a time (now unless given), or those of one `tokenId`; live connections close with 4401. */
  async revoke (revocation: { tenantId: number, until?: number | Date } & ({ userId: number, issuedBefore?: number | Date } | { tokenId: string })): Promise<AccessResult> {
    const { tenantId } = revocation
    const now = this.#options.clock.now()
    const until = revocation.until === undefined ? now + REVOKED_FOR : toMs(revocation.until)
    if ('tokenId' in revocation) return await this.#options.accessLog.record({ kind: 'revoke', tenantId, tokenId: revocation.tokenId, until })
    const issuedBefore = revocation.issuedBefore === undefined ? now : toMs(revocation.issuedBefore)
    return await this.#options.accessLog.record({ kind: 'revoke', tenantId, userId: revocation.userId, issuedBefore, until })
  }

  #askerOf ({ identity: { tenantId, userId }, owner }: Caller): Asker {
    return this.#follow({ owner, tenant: tenantId, holder: `${tenantId}/${userId}` })
  }

  /** A response says by itself when it is over; the connections plugin says it of its sockets. */
  #follow (asker: Asker): Asker {
    const { owner } = asker
    if (owner instanceof EventEmitter && owner.listenerCount('close', this.#onClose) === 0) owner.once('close', this.#onClose)
    return asker
  }

  readonly #onClose: (this: object) => void = ((access: Access) => function (this: object) { access.release(this) })(this)

  #failed (name: string, err: unknown): never {
    if (err instanceof RealtimeError && err.code !== 'RT_UNAVAILABLE') throw err // said on purpose, by the host or by a limit
    this.#throttled.write('error', { err, function: name }, `${name} failed: clients are asked to try again`)
    throw err instanceof RealtimeError ? err : notNow(err)
  }
}

/** These three are everyone's own: each connection is subscribed to them by itself. */
const isOwn = ({ userId }: Identity, channel: string): boolean =>
  channel === PRESENCE_CHANNEL || channel === BROADCAST_CHANNEL || channel === privateChannel(userId)

export const isYes = (verdict: Verdict): boolean => typeof verdict === 'object' && verdict !== null ? verdict.allow === true : verdict === true

function requireYes (verdict: Verdict): void {
  if (isYes(verdict)) return
  const { message, retryAfter } = typeof verdict === 'object' && verdict !== null ? verdict : {}
  throw retryAfter === undefined
    ? new RealtimeError('RT_FORBIDDEN', message)
    : new RealtimeError('RT_RATE_LIMITED', message, { retryAfter })
}

/** The field of an identity that the host got wrong, or null. */
function problemOf (identity: Identity): { field: string, type: string } | null {
  for (const field of ['tenantId', 'userId'] as const) if (!isId(identity[field])) return { field, type: typeof identity[field] }
  for (const field of ['expiresAt', 'issuedAt'] as const) {
    const time: unknown = identity[field]
    if (time === undefined || time === null) continue
    if (!Number.isFinite(time instanceof Date ? time.getTime() : time)) return { field, type: typeof time }
  }
  if (identity.tokenId !== undefined && identity.tokenId !== null && typeof identity.tokenId !== 'string') return { field: 'tokenId', type: typeof identity.tokenId }
  return null
}

const isId = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) > 0

/** The token of an `Authorization: Bearer …` header. */
export function bearerToken (header: string | undefined): string | undefined {
  const match = /^Bearer +(\S+)$/i.exec(header ?? '')
  return match?.[1]
}
