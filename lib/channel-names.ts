import type { Id, Ids } from './ids.js'

/** The names of channels, and the key that makes a channel unique over all tenants. */

export const PRESENCE_CHANNEL = 'presence'
export const BROADCAST_CHANNEL = 'broadcast'

const PRIVATE = 'private-user.'

export const privateChannel = (userId: Id): string => PRIVATE + userId

/** The user whose private channel this is; null for other channels. */
export const privateOwner = (channel: string, ids: Ids): Id | null =>
  channel.startsWith(PRIVATE) ? ids.read(channel.slice(PRIVATE.length)) : null

export const isPrivate = (channel: string): boolean => channel.startsWith(PRIVATE)

const WATCH = '~user.'

/** The hidden channel that carries a user's changes to the watchers. Clients cannot name it: names begin with a letter or a digit. */
export const watchChannel = (userId: Id): string => WATCH + userId

export const isHidden = (channel: string): boolean => channel.startsWith('~')

/** The user whose hidden channel this is; null for other channels. */
export const watchedUser = (channel: string, ids: Ids): Id | null =>
  channel.startsWith(WATCH) ? ids.read(channel.slice(WATCH.length)) : null

/** Replaces `user:me` with the caller's private channel. */
export const resolveAlias = (channel: string, userId: Id): string =>
  channel === 'user:me' ? privateChannel(userId) : channel

/** Channels on which clients cannot publish. */
export const isReserved = (channel: string): boolean =>
  channel === PRESENCE_CHANNEL || channel === BROADCAST_CHANNEL || channel.startsWith(PRIVATE)
