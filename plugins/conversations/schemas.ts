import { Type, type Static } from '@sinclair/typebox'
import {
  bodyErrorResponses, Channel, ConversationId, DedupeId, ErrorResponse, errorResponses, Id, MessageId, Nullable, SenderId, Timestamp
} from '../../lib/schemas.js'
import { MessageData } from '../../lib/wire/data-size.js'
import { ServerFrame } from '../../lib/wire/protocol.js'

const Message = Type.String({ minLength: 1, maxLength: 5000 })
const Dedupe = Type.Optional(DedupeId)
/** Without it, an edit keeps the data of the message; null removes them. */
const Data = Type.Optional(Nullable(MessageData))
const Before = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Only messages with a smaller id' })
const HistoryLimit = Type.Integer({ minimum: 1, maximum: 200, default: 50 })
const MessageIdText = Type.String({ pattern: '^[1-9]\\d{0,15}$' })

/** Exactly one of the two: a channel, or another user. The other user may be the system: messages that the host sends without a user. */
const where = { channel: Type.Optional(Channel), with: Type.Optional(SenderId) } as const
const oneOf = { oneOf: [{ required: ['channel'] }, { required: ['with'] }] }

export interface Where { channel?: string | undefined, with?: Static<typeof SenderId> | undefined }

/** Exact up to 99. */
const Unread = Type.Integer({ minimum: 0, maximum: 100, description: '100: 100 or more' })
const ReadUpTo = Type.Integer({ minimum: 0, description: 'The id up to which the caller has read' })

// History

export const HistoryData = Type.Object({
  ...where, before: Type.Optional(Before), limit: Type.Optional(HistoryLimit), conversationId: Type.Optional(ConversationId)
}, oneOf)
export type HistoryData = Static<typeof HistoryData>

export const HistoryQuery = Type.Object({
  ...where, before: Type.Optional(Before), limit: Type.Optional(HistoryLimit), conversation_id: Type.Optional(ConversationId)
}, oneOf)

export const History = Type.Object({
  data: Type.Array(ServerFrame, { description: 'Ascending by id. Edited messages have editedAt, deleted ones deleted: true and no content' }),
  more: Type.Boolean({ description: 'There are older messages; with conversation_id, there may be' }),
  before: Nullable(Type.Integer({ description: 'The before of the next page; null without more' })),
  reads: Type.Optional(Type.Array(ServerFrame, { description: 'Without before: the read marks of everyone, as conversation:read frames; empty for channels of more than receiptsUpTo participants' }))
})
export type History = Static<typeof History>

// The list

export const ConversationsQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
  cursor: Type.Optional(Type.String({ maxLength: 500, pattern: '^[A-Za-z0-9_-]+$' }))
})

export const Conversation = Type.Object({
  channel: Type.Optional(Channel),
  with: Type.Optional(SenderId),
  name: Nullable(Type.String({ description: 'Of the other user' })),
  last: Nullable(ServerFrame),
  last_at: Nullable(Timestamp),
  unread: Unread,
  read_up_to: ReadUpTo
})
export type Conversation = Static<typeof Conversation>

export const ConversationsAnswer = Type.Object({ data: Type.Array(Conversation), next_cursor: Nullable(Type.String()) })
export type ConversationsAnswer = Static<typeof ConversationsAnswer>

// Read marks

export const ReadData = Type.Object({ ...where, messageId: MessageId }, oneOf)
export type ReadData = Static<typeof ReadData>
export const ReadAck = Type.Object({ unread: Unread, readUpTo: ReadUpTo })
export type ReadAck = Static<typeof ReadAck>
export const ReadBody = Type.Object({ ...where, message_id: MessageId }, oneOf)
export const ReadAnswer = Type.Object({ data: Type.Object({ unread: Unread, read_up_to: ReadUpTo }) })

// Edits and deletes

export const EditData = Type.Object({ messageId: MessageId, message: Message, data: Data, dedupeId: Dedupe })
export type EditData = Static<typeof EditData>
export const EditAck = Type.Object({ messageId: MessageId, targetId: MessageId, editedAt: Timestamp })
export type EditAck = Static<typeof EditAck>
export const DeleteData = Type.Object({ messageId: MessageId, dedupeId: Dedupe })
export type DeleteData = Static<typeof DeleteData>
export const DeleteAck = Type.Object({ messageId: MessageId, targetId: MessageId })
export type DeleteAck = Static<typeof DeleteAck>

export const MessageParams = Type.Object({ id: MessageIdText })
export const EditBody = Type.Object({ message: Message, data: Data, dedupe_id: Dedupe })
export const DeleteQuery = Type.Object({ dedupe_id: Dedupe })
export const ChangeAnswer = Type.Object({
  data: Type.Object({ message_id: MessageId, target_id: MessageId, edited_at: Type.Optional(Timestamp) })
})

// Events that clients receive

/** Of a channel, or of a direct conversation: the same for both users. */
const place = { channel: Type.Optional(Channel), senderId: Type.Optional(SenderId), recipientId: Type.Optional(Id) } as const

export const Edited = Type.Object({
  messageId: MessageId,
  targetId: MessageId,
  message: Message,
  data: Nullable(MessageData),
  editedAt: Timestamp,
  userId: Id,
  ...place,
  timestamp: Timestamp
})
export type Edited = Static<typeof Edited>

export const Deleted = Type.Object({ messageId: MessageId, targetId: MessageId, userId: Id, ...place, timestamp: Timestamp })
export type Deleted = Static<typeof Deleted>

export const Read = Type.Object({ userId: Id, readUpTo: MessageId, ...place, timestamp: Timestamp })
export type Read = Static<typeof Read>

export const Activity = Type.Object({ channel: Channel, messageId: MessageId, timestamp: Timestamp })
export type Activity = Static<typeof Activity>

// Events by name

export const clientEvents = {
  history: { data: HistoryData, ack: History },
  'conversation:read': { data: ReadData, ack: ReadAck },
  'message:edit': { data: EditData, ack: EditAck },
  'message:delete': { data: DeleteData, ack: DeleteAck }
} as const

export const serverEvents = {
  'message:edited': Edited,
  'message:deleted': Deleted,
  'conversation:read': Read,
  'conversation:activity': Activity
} as const

const tags = ['conversations'] as const
const change = { tags, params: MessageParams, response: { ...bodyErrorResponses, 200: ChangeAnswer, 404: ErrorResponse, 422: ErrorResponse } } as const

export const rest = {
  'GET /history': {
    tags,
    summary: 'Get the newest messages of a conversation, or the messages before one',
    querystring: HistoryQuery,
    response: { ...errorResponses, 200: History }
  },
  'GET /conversations': {
    tags,
    summary: 'List the caller’s conversations, latest activity first, with unread counts',
    querystring: ConversationsQuery,
    response: { ...errorResponses, 200: ConversationsAnswer }
  },
  'POST /conversations/read': {
    tags,
    summary: 'Mark a conversation as read up to a message',
    body: ReadBody,
    response: { ...bodyErrorResponses, 200: ReadAnswer }
  },
  'PATCH /messages/:id': { ...change, summary: 'Edit a message', body: EditBody },
  'DELETE /messages/:id': { ...change, summary: 'Delete a message', querystring: DeleteQuery }
} as const
