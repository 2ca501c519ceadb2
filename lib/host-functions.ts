import type { FastifyRequest } from 'fastify'
import type { MaybePromise } from './async/maybe-promise.js'
import type { Identity } from './identity.js'
import type { Id } from './ids.js'

/** The functions that a host passes to the `realtime` plugin. */

/** What a host's `authorize` is asked. */
export interface AccessRequest {
  identity: Identity
  action: 'subscribe' | 'publish' | 'direct' | 'notify' | 'broadcast'
  /** The channel subscribed or published to; for `direct` the recipient's private one, for `notify` the caller's own. */
  channel: string
}

/** Who is behind these credentials? Null: nobody. A throw counts as null and is logged. */
export type Authenticate = (input: { token: string | undefined, request: FastifyRequest }) => MaybePromise<Identity | null>
/** May this identity do that? A throw counts as no, and is logged. */
export type Authorize = (request: AccessRequest) => MaybePromise<boolean>
/**
 * The same for several channels at once, which a client subscribes to with one frame: one answer for each, in the order
 * given. Where it is absent `authorize` is asked for each.
 */
export type AuthorizeMany = (request: Omit<AccessRequest, 'channel'> & { channels: string[] }) => MaybePromise<boolean[]>
/** The names of these users of a tenant; those that are left out have none. Called in batches, cached. */
export type ResolveUsers = (tenantId: Id, userIds: Id[]) => MaybePromise<Map<Id, { name: string }>>
