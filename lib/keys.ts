import type { Id, Ids } from './ids.js'

/** The key of a connection in `Internals.localConnections`. */
export const connectionKey = (tenantId: Id, connectionId: string): string => `${tenantId}/${connectionId}`

/** `{tenantId}/{channel}`: what hub, backplane and log use, so that no name is ever shared between tenants. */
export type ChannelKey = string

export const channelKey = (tenantId: Id, channel: string): ChannelKey => `${tenantId}/${channel}`

/** Takes a key apart again; neither an id nor a channel's name can hold a slash. */
export function splitKey (key: ChannelKey, ids: Ids): { tenantId: Id, channel: string } {
  const slash = key.indexOf('/')
  return { tenantId: ids.parse(key.slice(0, slash)), channel: key.slice(slash + 1) }
}

/** The channel of a key. */
export const channelOf = (key: ChannelKey): string => key.slice(key.indexOf('/') + 1)
