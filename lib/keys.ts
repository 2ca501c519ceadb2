/** The key of a connection in `Internals.localConnections`. */
export const connectionKey = (tenantId: number, connectionId: string): string => `${tenantId}/${connectionId}`

/** `{tenantId}/{channel}`: what hub, backplane and log use, so that no name is ever shared between tenants. */
export type ChannelKey = string

export const channelKey = (tenantId: number, channel: string): ChannelKey => `${tenantId}/${channel}`

/** Takes a key apart again; a channel's name cannot hold a slash, so the first one is the border. */
export function splitKey (key: ChannelKey): { tenantId: number, channel: string } {
  const slash = key.indexOf('/')
  return { tenantId: Number(key.slice(0, slash)), channel: key.slice(slash + 1) }
}
