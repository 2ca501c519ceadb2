import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { isDirectConversation } from '../../lib/conversation-keys.js'
import { OptionError } from '../../lib/errors.js'
import { hasPart, internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { readSettings } from '../../lib/settings.js'
import { ActivityAnnouncer } from './activity.js'
import { createApi, type ConversationsApi } from './api.js'
import { Conversations } from './conversations.js'
import { Edits, type Moderate } from './edits.js'
import { Erasing } from './erasing.js'
import { frames } from './frames.js'
import { Members } from './members.js'
import { OwnConnections } from './own-connections.js'
import { routes } from './routes.js'
import { ConversationStore } from './store.js'

const ConversationsSettings = Type.Object({
  editWindow: Type.Optional(Type.Integer({ minimum: 0, description: 'Time for which senders may edit and delete their messages, in milliseconds; absent: forever' })),
  receiptsUpTo: Type.Integer({ default: 100, minimum: 0, description: 'Largest number of participants for which read marks of a channel conversation are sent, and are in its history; 0: none are sent' }),
  activityUpTo: Type.Integer({ default: 100, minimum: 0, description: 'Largest number of participants to whom new messages of a channel conversation are announced; 0: none are announced' })
})

/** Options of the conversations plugin; every one has a default. */
export interface ConversationsOptions extends Partial<Static<typeof ConversationsSettings>> {
  /** Decides who may edit and delete messages of others: `event` is `message:edit` or `message:delete`. Absent: no one. */
  moderate?: Moderate
}

export type { ConversationsApi, Erased } from './api.js'
export type { Moderate } from './edits.js'

declare module '../../lib/realtime.js' {
  interface RealtimeParts {
    conversations: ConversationsApi
  }
}

async function conversationsPlugin (fastify: FastifyInstance, options: ConversationsOptions): Promise<void> {
  const internals = internalsFor(fastify, 'conversations')
  const { editWindow, receiptsUpTo, activityUpTo } = readSettings(ConversationsSettings, options, { of: 'conversations', besides: ['moderate'] })
  const { moderate } = options
  if (moderate !== undefined && typeof moderate !== 'function') throw new OptionError('moderate', 'must be a function')
  const store = new ConversationStore(internals.database, internals.ids)
  const members = new Members(internals, store, fastify.log)
  const activity = new ActivityAnnouncer(internals, store, activityUpTo, fastify.log)
  const conversations = new Conversations(internals, store, new OwnConnections(internals), receiptsUpTo)
  const edits = new Edits(internals, store, { editWindow, moderate })

  internals.conversations = { begin: (event, transaction) => members.begin(event, transaction) }
  internals.bus.on('message', (message) => {
    const conversation = members.sent(message)
    if (conversation === null || isDirectConversation(conversation)) return
    activity.add({ tenantId: message.tenantId, channel: conversation, messageId: message.messageId })
  })
  const erasing = new Erasing(internals, {
    close: async ({ tenantId, userId }) => {
      if (hasPart(fastify.realtime, 'connections')) await fastify.realtime.connections.closeUser(tenantId, userId)
    },
    forget: (user) => { members.forget(user) }
  }, fastify.log)
  fastify.realtime.conversations = createApi(internals, members, async (user) => await erasing.erase(user))
  frames(internals.frames, conversations, edits)
  await restScope(fastify, internals, (scope) => { routes(scope, conversations, edits) })
  internals.onBeforeClose(async () => {
    activity.close()
    erasing.close()
    await members.close()
  })
}

export default fp(conversationsPlugin, { name: 'realtime-conversations', fastify: '5.x' })
