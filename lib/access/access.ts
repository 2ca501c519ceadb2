import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import { thenMaybe, catchMaybe, type MaybePromise } from '../async/maybe-promise.js'
import { Semaphore } from '../async/semaphore.js'
import { BROADCAST_CHANNEL, PRESENCE_CHANNEL, privateChannel } from '../channel-names.js'
import type { Clock } from '../clock.js'
import { RealtimeError, toRealtimeError } from '../errors.js'
import type { AccessRequest, Authenticate, Authorize, AuthorizeMany } from '../host-functions.js'
import { expiryOf, mistakeIn, type Identity } from '../identity.js'
import type { Ids } from '../ids.js'

/** What is allowed without a host's word: direct messages inside the tenant. (Own channels: see `allows`.) */
export const defaultAuthorize: Authorize = ({ action }) => action === 'direct'

/** Times of this century in seconds are below it; in milliseconds that is the year 1973. */
const LAST_SECONDS = 1e11

/** What hosts and plugins ask about users: `identify` a token, `allows` an action, `require` it. */
export type AccessControl = Pick<Access, 'identify' | 'allows' | 'require'>

/** Who someone is, and what they may do, by the host's two functions. */
export class Access {
  readonly #authenticate: Authenticate
  readonly #authorize: Authorize
  readonly #authorizeMany: AuthorizeMany | undefined
  readonly #ids: Ids
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  readonly #semaphore: Semaphore
  readonly #logged = new Set<string>()
  /** Subscriptions about to be asked for, by channel. Taken by the question; a renewed identity forgets its own. */
  readonly #prefetched = new WeakMap<Identity, Map<string, MaybePromise<boolean>>>()

  constructor ({ authenticate, authorize = defaultAuthorize, authorizeMany, ids, concurrency, clock, log }: {
    authenticate: Authenticate, authorize?: Authorize | undefined, authorizeMany?: AuthorizeMany | undefined, ids: Ids, concurrency: number, clock: Clock, log: FastifyBaseLogger
  }) {
    this.#authenticate = authenticate
    this.#authorize = authorize
    this.#authorizeMany = authorizeMany
    // All clients come back at once after a deploy: the host's users table must not meet them all at once.
    this.#semaphore = new Semaphore(concurrency)
    this.#ids = ids
    this.#clock = clock
    this.#log = log
  }

  /**
   * The identity behind the credentials, or null; at once where the host answers at once. Throws `RT_TOKEN_EXPIRED` for
   * those that were good once, and `RT_INTERNAL` for an identity with which nothing can be done.
   */
  identify (token: string | undefined, request: FastifyRequest): MaybePromise<Identity | null> {
    const answer = catchMaybe(() => this.#semaphore.run(() => this.#authenticate({ token, request })), (err) => this.#unknown(err))
    return thenMaybe(answer, (identity) => this.#checked(identity))
  }

  #unknown (err: unknown): null {
    this.#log.warn({ err }, 'authenticate failed')
    return null
  }

  #checked (identity: Identity | null | undefined): Identity | null {
    if (identity === null || identity === undefined) return null
    const mistake = mistakeIn(identity, this.#ids)
    if (mistake !== null) {
      this.#logOnce('error', mistake, 'authenticate returned an identity that cannot be used: %s %s')
      // Nothing that the client could mend by trying again soon.
      throw new RealtimeError('RT_INTERNAL', undefined, { retryAfter: 60 })
    }
    const expiry = expiryOf(identity)
    if (expiry > this.#clock.now()) return identity
    if (expiry > 0 && expiry < LAST_SECONDS) {
      this.#logOnce('warn', { field: 'expiresAt', problem: 'looks like seconds, as in a JWT: give milliseconds' }, 'authenticate returned an identity that has expired: %s %s')
    }
    throw new RealtimeError('RT_TOKEN_EXPIRED')
  }

  /** A mistake in the host's code comes with each request: one line says it all. */
  #logOnce (level: 'error' | 'warn', { field, problem }: { field: string, problem: string }, text: string): void {
    if (this.#logged.has(field)) return
    this.#logged.add(field)
    this.#log[level]({ field }, text, field, problem)
  }

  /**
   * `allows` will be asked for this subscription soon: the host is asked now. A client that comes back subscribes to its
   * channels with one frame after the other, which would else wait for the host one after the other.
   */
  prefetch (identity: Identity, channel: string): void {
    const prefetched = this.#prefetched.get(identity) ?? new Map<string, MaybePromise<boolean>>()
    this.#prefetched.set(identity, prefetched)
    if (!prefetched.has(channel)) prefetched.set(channel, this.#decide({ identity, action: 'subscribe', channel }))
  }

  /** Never rejects. Answered in this turn where the host's function does. */
  allows (request: AccessRequest): MaybePromise<boolean> {
    const { identity, action, channel } = request
    if (action !== 'subscribe') return this.#decide(request)
    const prefetched = this.#prefetched.get(identity)
    const answer = prefetched?.get(channel)
    prefetched?.delete(channel)
    return answer ?? this.#decide(request)
  }

  /** Throws, or rejects with, `RT_FORBIDDEN`. */
  require (request: AccessRequest): MaybePromise<void> {
    return thenMaybe(this.allows(request), (allowed) => {
      if (!allowed) throw new RealtimeError('RT_FORBIDDEN')
    })
  }

  /** Each of these subscriptions, in the order given: null where it is allowed, else the refusal. Never rejects. */
  async requireEach (identity: Identity, channels: readonly string[]): Promise<Array<RealtimeError | null>> {
    const asked = [...new Set(channels)].filter((channel) => !isOwn(identity, channel))
    const authorizeMany = this.#authorizeMany
    if (authorizeMany === undefined || asked.length < 2) {
      return await Promise.all(channels.map(async (channel) =>
        await catchMaybe(() => thenMaybe(this.require({ identity, action: 'subscribe', channel }), () => null), toRealtimeError)))
    }
    const allowed = await this.#allowedOf(authorizeMany, identity, asked)
    return channels.map((channel) => isOwn(identity, channel) || allowed.has(channel) ? null : new RealtimeError('RT_FORBIDDEN'))
  }

  async #allowedOf (authorizeMany: AuthorizeMany, identity: Identity, channels: string[]): Promise<Set<string>> {
    const { userId, tenantId } = identity
    try {
      const answers = await this.#semaphore.run(() => authorizeMany({ identity, action: 'subscribe', channels }))
      if (answers.length !== channels.length) throw new Error(`authorizeMany answered ${answers.length} times for ${channels.length} channels`)
      return new Set(channels.filter((_, i) => answers[i] === true))
    } catch (err) {
      this.#log.error({ err, channels: channels.length, userId, tenantId }, 'authorizeMany failed: refused')
      return new Set()
    }
  }

  #decide (request: AccessRequest): MaybePromise<boolean> {
    const { identity, action, channel } = request
    if (action === 'subscribe' && isOwn(identity, channel)) return true
    // Subscriptions come in storms, with each reconnect; what is published has its rates.
    return catchMaybe(() => action === 'subscribe' ? this.#semaphore.run(() => this.#authorize(request)) : this.#authorize(request),
      (err) => this.#refused(request, err))
  }

  #refused ({ identity: { userId, tenantId }, action, channel }: AccessRequest, err: unknown): false {
    this.#log.error({ err, action, channel, userId, tenantId }, 'authorize failed: refused')
    return false
  }
}

/** These three are everyone's own: each connection is subscribed to them by itself. */
const isOwn = ({ userId }: Identity, channel: string): boolean =>
  channel === privateChannel(userId) || channel === PRESENCE_CHANNEL || channel === BROADCAST_CHANNEL

/** The token of an `Authorization: Bearer …` header. */
export function bearerToken (header: string | undefined): string | undefined {
  const match = /^Bearer +(\S+)$/i.exec(header ?? '')
  return match?.[1]
}
