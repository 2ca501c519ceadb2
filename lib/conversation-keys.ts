import { privateOwner } from './channel-names.js'
import type { Id, Ids } from './ids.js'

/**
 * The values of the column `conversation` of websocket_events. A conversation in a channel has the channel's name; direct
 * messages have the ids of both users in order, with a slash, which no channel and no id contains.
 */

/** The events that are messages of a conversation. */
export const MESSAGE_TYPES = ['message:direct', 'message:group'] as const

export const directConversation = (ids: Ids, one: Id, other: Id): string => ids.compare(one, other) <= 0 ? `${one}/${other}` : `${other}/${one}`

export const isDirectConversation = (conversation: string): boolean => conversation.includes('/')

/** The two users of a direct conversation; for a conversation with oneself both are the same. */
export function usersOf (ids: Ids, conversation: string): [Id, Id] {
  const slash = conversation.indexOf('/')
  return [ids.parse(conversation.slice(0, slash)), ids.parse(conversation.slice(slash + 1))]
}

/** The other user of a direct conversation. */
export function peerIn (ids: Ids, conversation: string, userId: Id): Id {
  const [one, other] = usersOf(ids, conversation)
  return one === userId ? other : one
}

/** The conversation to which an event belongs; null if it is not a message. */
export function conversationOf (ids: Ids, { type, channel, userId }: { type: string, channel: string, userId: Id }): string | null {
  if (type === 'message:group') return channel
  const recipientId = type === 'message:direct' ? privateOwner(channel, ids) : null
  return recipientId === null ? null : directConversation(ids, userId, recipientId)
}

/** The value for events that edit a message: a delete finds them by it. Neither a channel nor an id contains a `#`. */
export const editsOf = (messageId: number): string => `#${messageId}`
