import type { ClientError, Id } from '../index.js'

/** A message of a conversation. It is replaced by another object when it changes, so that rows can be memoized. */
export interface Message {
  /** Never changes: the `key` of a row. */
  readonly key: string
  /** Undefined until the server has stored it. */
  readonly id?: number | undefined
  readonly userId: Id | undefined
  readonly isMine: boolean
  /** Empty if it was deleted. */
  readonly message: string
  readonly data?: object | null | undefined
  readonly timestamp: string
  /** `sending` waits for a connection, too. `failed`, with its `error`, waits for `retry` or `discard`. */
  readonly status: 'sending' | 'sent' | 'failed'
  readonly error?: ClientError | undefined
  readonly editedAt?: string | undefined
  readonly isDeleted?: boolean | undefined
}

/** A message from the server. */
export interface StoredMessage {
  messageId: number
  userId?: Id
  senderId?: Id
  recipientId?: Id
  channel?: string
  message?: string
  data?: object
  timestamp: string
  editedAt?: string
  deleted?: boolean
}

export const messageOf = ({ messageId: id, userId, senderId = userId, message = '', data, timestamp, editedAt, deleted }: StoredMessage, me: Id | undefined): Message => ({
  key: String(id), id, userId: senderId, isMine: senderId === me, message, data, timestamp, status: 'sent', editedAt, isDeleted: deleted
})

/** Merges messages into the existing ones; an existing message is kept. */
export const merge = (messages: readonly Message[], there: readonly Message[]): readonly Message[] =>
  [...new Map([...messages, ...there].map((message) => [message.id, message])).values()].sort((a, b) => a.id! - b.id!)

/** The other user of a direct conversation. */
export const peerOf = ({ senderId, recipientId }: { senderId?: Id | undefined, recipientId?: Id | undefined }, me: Id | undefined): Id | undefined => senderId === me ? recipientId : senderId
