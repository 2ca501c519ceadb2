import { EventEmitter } from 'node:events'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import { thenMaybe, isPromise, catchMaybe, type MaybePromise } from '../async/maybe-promise.js'
import { ThrottledLog } from '../async/throttled-log.js'
import { BROADCAST_CHANNEL, PRESENCE_CHANNEL, privateChannel } from '../channel-names.js'
import type { Clock } from '../clock.js'
import { RealtimeError, toRealtimeError, type ErrorCode } from '../errors.js'
import type { AccessRequest, Authenticate, Authorize, AuthorizeMany, Verdict } from '../host-functions.js'
import { expiryOf, mistakeIn, type Caller, type Identity } from '../identity.js'
import type { Ids } from '../ids.js'
import { userKey } from '../keys.js'
import type { FailedAuthentications } from './failed-authentications.js'
import { HostCalls, notNow, type Asker } from './host-calls.js'
import type { Restrictions } from './restrictions.js'

/** The default of `authorize`: direct messages inside the tenant. (The user's own channels are always allowed.) */
export const defaultAuthorize: Authorize = ({ action }) => action === 'direct'

/** Times of this century in seconds are below it; in milliseconds that is the year 1973. */
const LAST_SECONDS = 1e11

export interface AccessOptions {
  authenticate: Authenticate
  authorize?: Authorize | undefined
  authorizeMany?: AuthorizeMany | undefined
  ids: Ids
  /** Maximum number of concurrent calls of each of the two kinds. */
  concurrency: number
  /** Timeout of host functions in milliseconds. */
  timeout: number
  restrictions: Restrictions
  /** An identity was refused because of a ban or a revocation. */
  onRefused: (identity: Identity, code: ErrorCode) => void
  failures: FailedAuthentications
  clock: Clock
  log: FastifyBaseLogger
}

/** A question to `authorize`, without the identity of the caller. */
export type Question = Omit<AccessRequest, 'identity'>

/** Calls the host's `authenticate` and `authorize`, with timeouts and limited concurrency. */
export class Access {
  readonly #options: AccessOptions
  /** Two separate limits: an `authenticate` that hangs must not prevent authenticated clients from subscribing. */
  readonly #authentication: HostCalls
  readonly #authorization: HostCalls
  readonly #throttled: ThrottledLog
  readonly #logged = new Set<string>()
  readonly failures: FailedAuthentications

  constructor (options: AccessOptions) {
    this.#options = options
    const lane = { places: options.concurrency, timeout: options.timeout, onWaiting: (owner: object) => { this.#follow(owner) } }
    this.#authentication = new HostCalls(lane)
    // Credentials without a time of issue count as issued now: a decision has already closed connections that presented them before.
    this.#authorization = new HostCalls({ ...lane, refusal: (identity) => options.restrictions.refusal(identity, options.clock.now()) })
    this.#throttled = new ThrottledLog(options.log)
    this.failures = options.failures
  }

  /**
   * The identity behind the credentials, or null. Synchronous if the host is (bench rows "connect" and REST). `owner` is the
   * connection or the HTTP response that waits. Throws `RT_TOKEN_EXPIRED`, `RT_BANNED`, `RT_TOKEN_REVOKED`, `RT_UNAVAILABLE`, or
   * `RT_INTERNAL` if the host returned something that is not an identity.
   */
  identify (token: string | undefined, request: FastifyRequest, owner: object): MaybePromise<Identity | null> {
    const { failures } = this
    const holder = failures.limitedAddress(request.ip)
    if (failures.wasRefused(token)) {
      // Counts as a failure, without a call of the host.
      failures.refused(holder, undefined)
      return null
    }
    const asker = { owner, tenant: holder ?? '', holder, suspect: failures.isSuspect(holder, token) }
    const answer = catchMaybe(() => this.#authentication.run(asker, () => this.#options.authenticate({ token, request })),
      (err) => this.#failed('authenticate', err))
    return thenMaybe(answer, (identity) => {
      try {
        const checked = this.#checked(identity)
        if (checked !== null) failures.accepted(holder, token)
        // Missing credentials are not an attempt to guess.
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
    const mistake = mistakeIn(identity, this.#options.ids)
    if (mistake !== null) {
      this.#logOnce('error', mistake, 'authenticate returned an identity that cannot be used: %s %s')
      // Not `RT_UNAVAILABLE`: another attempt would fail in the same way.
      throw new RealtimeError('RT_INTERNAL', undefined, { retryAfter: 60 })
    }
    const now = this.#options.clock.now()
    const expiry = expiryOf(identity)
    if (expiry <= now) {
      if (expiry > 0 && expiry < LAST_SECONDS) {
        this.#logOnce('warn', { field: 'expiresAt', problem: 'looks like seconds, as in a JWT: give milliseconds' }, 'authenticate returned an identity that has expired: %s %s')
      }
      throw new RealtimeError('RT_TOKEN_EXPIRED')
    }
    const refusal = this.#options.restrictions.refusal(identity, now)
    if (refusal !== null) {
      this.#options.onRefused(identity, refusal.code)
      throw refusal
    }
    return identity
  }

  /** Throttled, because a mistake in the host's code affects each request. */
  #logOnce (level: 'error' | 'warn', { field, problem }: { field: string, problem: string }, text: string): void {
    if (this.#logged.has(field)) return
    this.#logged.add(field)
    this.#options.log[level]({ field }, text, field, problem)
  }

  /** Calls `authorize` for a subscription that waits for other frames. The result is only used for this frame and connection. */
  prefetch (caller: Caller, channel: string): MaybePromise<Verdict> {
    const answer = thenMaybe(catchMaybe(() => this.verdict(caller, { action: 'subscribe', channel }), toRealtimeError),
      (verdict) => verdict instanceof RealtimeError ? Promise.reject(verdict) : verdict)
    // The frame handles a rejection; if the socket closes first, nothing else does.
    if (isPromise(answer)) answer.catch(() => {})
    return answer
  }

  /** Returns the result of `authorize`. Synchronous if the host is (bench row "direct messages, durable"). Throws, or rejects with, `RT_UNAVAILABLE`. */
  verdict (caller: Caller, question: Question): MaybePromise<Verdict> {
    const { identity } = caller
    if (question.action === 'subscribe' && isOwn(identity, question.channel)) return true
    const authorize = this.#options.authorize ?? defaultAuthorize
    return catchMaybe(() => this.#authorization.run(this.#askerOf(caller), () => authorize({ identity, ...question })),
      (err) => this.#failed('authorize', err))
  }

  /** For each of these subscriptions, in the order given, null if it is allowed, else the error. Never rejects. */
  async requireEach (caller: Caller, channels: readonly string[], prefetched?: MaybePromise<Verdict>): Promise<Array<RealtimeError | null>> {
    const verdicts = prefetched !== undefined && channels.length === 1
      ? await Promise.allSettled([prefetched])
      : await this.verdicts(caller, channels)
    return verdicts.map((outcome) => {
      if (outcome.status === 'rejected') return toRealtimeError(outcome.reason)
      return isYes(outcome.value) ? null : refusalOf(outcome.value)
    })
  }

  /** The verdict on each of these subscriptions, in the order given, by `authorizeMany` if the host has one. Never rejects. */
  async verdicts (caller: Caller, channels: readonly string[]): Promise<Array<PromiseSettledResult<Verdict>>> {
    const { authorizeMany } = this.#options
    // A recheck calls this for thousands of connections at once, mostly for one channel.
    const asked = authorizeMany === undefined || channels.length < 2 ? [] : [...new Set(channels)].filter((channel) => !isOwn(caller.identity, channel))
    if (authorizeMany === undefined || asked.length < 2) {
      return await Promise.all(channels.map(async (channel) => await this.#outcome(caller, channel)))
    }
    const answers = await this.#askMany(authorizeMany, caller, asked).catch((err: unknown) => toRealtimeError(err))
    const byChannel = new Map(asked.map((channel, i) => [channel, i]))
    return channels.map((channel): PromiseSettledResult<Verdict> => {
      const i = byChannel.get(channel)
      if (i === undefined) return { status: 'fulfilled', value: true }
      return answers instanceof RealtimeError ? { status: 'rejected', reason: answers } : { status: 'fulfilled', value: answers[i] ?? false }
    })
  }

  async #outcome (caller: Caller, channel: string): Promise<PromiseSettledResult<Verdict>> {
    try {
      return { status: 'fulfilled', value: await this.verdict(caller, { action: 'subscribe', channel }) }
    } catch (reason) {
      return { status: 'rejected', reason }
    }
  }

  async #askMany (authorizeMany: AuthorizeMany, caller: Caller, channels: string[]): Promise<Verdict[]> {
    const { identity } = caller
    return await catchMaybe(() => this.#authorization.run(this.#askerOf(caller), () =>
      thenMaybe(authorizeMany({ identity, action: 'subscribe', channels }), (answers) => {
        if (Array.isArray(answers) && answers.length === channels.length) return answers
        throw new Error(`authorizeMany must return one verdict per channel: ${channels.length} channels were passed`)
      })), (err) => this.#failed('authorizeMany', err))
  }

  /** Calls any other host function for a caller, within the caller's share of concurrent calls. Throws, or rejects with, `RT_UNAVAILABLE`. */
  ask<T> (caller: Caller, name: string, call: () => MaybePromise<T>): MaybePromise<T> {
    return catchMaybe(() => this.#authorization.run(this.#askerOf(caller), call), (err) => this.#failed(name, err))
  }

  /** Whether `authorize` allows something. Throws, or rejects with, `RT_UNAVAILABLE`. */
  allows (caller: Caller, question: Question): MaybePromise<boolean> {
    return thenMaybe(this.verdict(caller, question), isYes)
  }

  /** Throws, or rejects with, `RT_FORBIDDEN`, `RT_RATE_LIMITED` (slow mode) or `RT_UNAVAILABLE`. */
  require (caller: Caller, question: Question, prefetched?: MaybePromise<Verdict>): MaybePromise<void> {
    return thenMaybe(prefetched ?? this.verdict(caller, question), requireYes)
  }

  /** The numbers of running and waiting calls of host functions. */
  get load (): Array<{ lane: 'authenticate' | 'authorize', running: number, waiting: number }> {
    const lanes = { authenticate: this.#authentication, authorize: this.#authorization } as const
    return (['authenticate', 'authorize'] as const).map((lane) => ({ lane, running: lanes[lane].running, waiting: lanes[lane].waiting }))
  }

  /** The owner of calls is gone: releases its calls. */
  release (owner: object): void {
    this.#authentication.release(owner)
    this.#authorization.release(owner)
  }

  #askerOf ({ identity, owner }: Caller): Asker {
    const { tenantId, userId } = identity
    return { owner, tenant: tenantId, holder: userKey(tenantId, userId), identity }
  }

  /** Releases the calls of an HTTP response when it ends; for sockets the connections plugin calls `release`. */
  #follow (owner: object): void {
    if (owner instanceof EventEmitter && owner.listenerCount('close', this.#onClose) === 0) owner.once('close', this.#onClose)
  }

  readonly #onClose: (this: object) => void = ((access: Access) => function (this: object) { access.release(this) })(this)

  #failed (name: string, err: unknown): never {
    if (err instanceof RealtimeError && err.code !== 'RT_UNAVAILABLE') throw err // thrown on purpose, by the host or by a limit
    this.#throttled.write('error', { err, function: name }, `${name} failed: clients are asked to try again`)
    throw err instanceof RealtimeError ? err : notNow(err)
  }
}

/** Channels to which each connection is subscribed automatically. */
const isOwn = ({ userId }: Identity, channel: string): boolean =>
  channel === PRESENCE_CHANNEL || channel === BROADCAST_CHANNEL || channel === privateChannel(userId)

export const isYes = (verdict: Verdict): boolean => typeof verdict === 'object' && verdict !== null ? verdict.allow === true : verdict === true

function requireYes (verdict: Verdict): void {
  if (!isYes(verdict)) throw refusalOf(verdict)
}

function refusalOf (verdict: Verdict): RealtimeError {
  const { message, retryAfter } = typeof verdict === 'object' && verdict !== null ? verdict : {}
  return retryAfter === undefined
    ? new RealtimeError('RT_FORBIDDEN', message)
    : new RealtimeError('RT_RATE_LIMITED', message, { retryAfter })
}

/** The token of an `Authorization: Bearer …` header. */
export function bearerToken (header: string | undefined): string | undefined {
  const match = /^Bearer +(\S+)$/i.exec(header ?? '')
  return match?.[1]
}
