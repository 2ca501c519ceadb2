import { Type, type Static } from '@sinclair/typebox'
import {
  bodyErrorResponses, Channel, ConversationId, ConversationType, errorResponses, Id, Nullable, Timestamp
} from '../../lib/schemas.js'

export const TypingBody = Type.Object({
  conversation_id: ConversationId,
  conversation_type: Type.Optional(ConversationType),
  is_typing: Type.Boolean(),
  channel: Type.Optional(Channel),
  recipient_id: Type.Optional(Id)
})

export const TypingRecorded = Type.Object({
  data: Type.Object({ conversation_id: ConversationId, is_typing: Type.Boolean(), expires_at: Timestamp })
})

export const ConversationParams = Type.Object({ conversationId: ConversationId })

export const TypingUsers = Type.Object({
  data: Type.Array(Type.Object({ user_id: Id, user_name: Nullable(Type.String()), started_at: Timestamp })),
  count: Type.Integer()
})

export const TypingData = Type.Object({
  conversationId: ConversationId,
  conversationType: Type.Optional(ConversationType),
  isTyping: Type.Boolean(),
  channel: Type.Optional(Channel),
  recipientId: Type.Optional(Id)
})
export type TypingData = Static<typeof TypingData>

export const TypingAck = Type.Object({ conversationId: ConversationId, isTyping: Type.Boolean(), expiresAt: Timestamp })
export type TypingAck = Static<typeof TypingAck>

/** server → client `user:typing` */
export const TypingChanged = Type.Object({
  userId: Id, isTyping: Type.Boolean(), conversationId: ConversationId, conversationType: ConversationType, timestamp: Timestamp
})
export type TypingChanged = Static<typeof TypingChanged>

export const clientEvents = { 'user:typing': { data: TypingData, ack: TypingAck } } as const

export const serverEvents = { 'user:typing': TypingChanged } as const

const tags = ['typing'] as const

export const rest = {
  'POST /typing': {
    tags, summary: 'Start, prolong or stop the caller’s typing', body: TypingBody, response: { ...bodyErrorResponses, 200: TypingRecorded }
  },
  'GET /typing/:conversationId': {
    tags, summary: 'List the users who type in a conversation now', params: ConversationParams, response: { ...errorResponses, 200: TypingUsers }
  }
} as const
