/** The names of channels, and the key that makes a channel unique over all tenants. */

/** `{tenantId}/{channel}`: what hub, backplane and log use, so that no name is ever shared between tenants. */
export type ChannelKey = string

export const PRESENCE_CHANNEL = 'presence'
export const BROADCAST_CHANNEL = 'broadcast'

const PRIVATE = 'private-user.'

export const channelKey = (tenantId: number, channel: string): ChannelKey => `${tenantId}/${channel}`

/** Takes a key apart again; a channel's name cannot hold a slash, so the first one is the border. */
export function splitKey (key: ChannelKey): { tenantId: number, channel: string } {
  const slash = key.indexOf('/')
  return { tenantId: Number(key.slice(0, slash)), channel: key.slice(slash + 1) }
}

export const privateChannel = (userId: number): string => PRIVATE + userId

/** The user whose private channel this is, or null where it is none. */
export function privateOwner (channel: string): number | null {
  if (!channel.startsWith(PRIVATE)) return null
  const digits = channel.slice(PRIVATE.length)
  return /^[1-9]\d{0,15}$/.test(digits) ? Number(digits) : null
}

/** `user:me` is the caller's own private channel; every other name stands for itself. */
export const resolveAlias = (channel: string, userId: number): string =>
  channel === 'user:me' ? privateChannel(userId) : channel

/** Channels that only the suite itself writes to. */
export const isReserved = (channel: string): boolean =>
  channel === PRESENCE_CHANNEL || channel === BROADCAST_CHANNEL || channel.startsWith(PRIVATE)
