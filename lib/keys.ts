import type { Id, Ids } from './ids.js'

/**
 * Composite keys of maps: `{tenantId}/…`, so that tenants never share an entry. Neither a tenant's nor a user's id
 * can hold a slash, so the first slash ends the tenant. The types keep the kinds apart: the key of a connection, or any
 * string, is not accepted as the key of a channel; a literal (`'1/room'`) is.
 */

declare const kind: unique symbol
type Key<Kind extends string> = `${string}/${string}` & { readonly [kind]?: Kind }

/** `{tenantId}/{channel}`: used by hub, backplane and event log. */
export type ChannelKey = Key<'channel'>
/** `{tenantId}/{connectionId}`: the key of `Internals.localConnections`. */
export type ConnectionKey = Key<'connection'>
/** `{tenantId}/{userId}` */
export type UserKey = Key<'user'>

/** A user inside a tenant. */
export interface UserRef { tenantId: Id, userId: Id }

export const channelKey = (tenantId: Id, channel: string): ChannelKey => `${tenantId}/${channel}` as ChannelKey

export const connectionKey = (tenantId: Id, connectionId: string): ConnectionKey => `${tenantId}/${connectionId}` as ConnectionKey

export const userKey = (tenantId: Id, userId: Id): UserKey => `${tenantId}/${userId}` as UserKey

/** The key under which a user's requests of one kind are counted, REST and frames together. */
export const rateKey = (kind: string, { tenantId, userId }: UserRef): string => `${kind}:${tenantId}/${userId}`

/** The parts of a channel's key. */
export function splitKey (key: ChannelKey, ids: Ids): { tenantId: Id, channel: string } {
  const slash = key.indexOf('/')
  return { tenantId: ids.parse(key.slice(0, slash)), channel: key.slice(slash + 1) }
}

/** The channel of a key. */
export const channelOf = (key: ChannelKey): string => key.slice(key.indexOf('/') + 1)
