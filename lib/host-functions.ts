import type { FastifyRequest } from 'fastify'
import type { MaybePromise } from './async/maybe-promise.js'
import type { Identity } from './identity.js'
import type { Id } from './ids.js'

/** The functions that a host passes to the `realtime` plugin. */

/** The argument of a host's `authorize`. */
export interface AccessRequest {
  identity: Identity
  action: 'subscribe' | 'publish' | 'direct' | 'notify' | 'broadcast'
  /** The channel subscribed or published to; for `direct` the recipient's private one, for `notify` the caller's own. */
  channel: string
  /** The name of the published frame: `message:group`, `user:typing`, a custom event. */
  event?: string
  /** The frame's data, under the names of the frame over REST too. */
  data?: Readonly<Record<string, unknown>>
  /** Of `direct` and `notify`. */
  recipientIds?: readonly Id[]
}

/**
 * The result of `authorize`: yes, no, or a refusal with details for the client. With `retryAfter` (seconds) the refusal is
 * `RT_RATE_LIMITED`, for instance in a channel with slow mode; without it `RT_FORBIDDEN`.
 */
export type Verdict = boolean | { allow: boolean, message?: string, retryAfter?: number }

/** Returns the identity behind credentials; null if they are not valid. If it throws, or takes longer than `hostTimeout`, the client gets `RT_UNAVAILABLE`. */
export type Authenticate = (input: { token: string | undefined, request: FastifyRequest }) => MaybePromise<Identity | null>
/** Whether an identity may do something. If it throws, or takes longer than `hostTimeout`, the client gets `RT_UNAVAILABLE`. */
export type Authorize = (request: AccessRequest) => MaybePromise<Verdict>
/**
 * The same for several channels at once: for a frame that subscribes to several, and for a recheck. Returns one result
 * per channel, in the same order. If absent, `authorize` is called for each channel.
 */
export type AuthorizeMany = (request: { identity: Identity, action: 'subscribe', channels: string[] }) => MaybePromise<Verdict[]>
/** Limits of a tenant as a whole, over all nodes; absent or 0: none. */
export interface TenantLimits {
  /** Beyond it, connections are refused with `RT_LIMIT_EXCEEDED`. */
  connections?: number
  /** Durable events of clients; beyond it, they are refused with `RT_RATE_LIMITED`. */
  messagesPerSecond?: number
}

/** The limits of this tenant; null: none. The result is cached for 60 s. */
export type TenantLimitsOf = (tenantId: Id) => MaybePromise<TenantLimits | null | undefined>

/** Returns the names of users of a tenant; users without a name are left out. Called in batches, and cached. */
export type ResolveUsers = (tenantId: Id, userIds: Id[]) => MaybePromise<Map<Id, { name: string }>>
