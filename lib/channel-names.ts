/** The names of channels, and the key that makes a channel unique over all tenants. */

export const PRESENCE_CHANNEL = 'presence'
export const BROADCAST_CHANNEL = 'broadcast'

const PRIVATE = 'private-user.'

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
