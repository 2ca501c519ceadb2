import { callerOf } from '../../lib/plugin-kit/rest-scope.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import type { Conversations } from './conversations.js'
import type { Edits } from './edits.js'
import { rest } from './schemas.js'

/** The optional `dedupe_id` under its name in frames. */
const dedupe = ({ dedupe_id: dedupeId }: { dedupe_id?: string }) => dedupeId === undefined ? {} : { dedupeId }

export function routes (scope: RestScope, conversations: Conversations, edits: Edits): void {
  scope.get('/history', { schema: rest['GET /history'] }, async (request) => {
    const { conversation_id: conversationId, ...asked } = request.query
    return await conversations.history(callerOf(request), { ...asked, conversationId })
  })

  scope.get('/conversations', { schema: rest['GET /conversations'] }, async (request) => {
    const { data, next } = await conversations.list(callerOf(request), request.query)
    return { data, next_cursor: next }
  })

  scope.post('/conversations/read', { schema: rest['POST /conversations/read'] }, async (request) => {
    const { message_id: messageId, ...where } = request.body
    const { unread, readUpTo } = await conversations.read(callerOf(request), { ...where, messageId })
    return { data: { unread, read_up_to: readUpTo } }
  })

  scope.patch('/messages/:id', { schema: rest['PATCH /messages/:id'] }, async (request) => {
    const { message, data } = request.body
    const { value } = await edits.edit(callerOf(request), { messageId: Number(request.params.id), message, ...data === undefined ? {} : { data }, ...dedupe(request.body) })
    const { messageId, targetId, editedAt } = await value
    return { data: { message_id: messageId, target_id: targetId, edited_at: editedAt } }
  })

  scope.delete('/messages/:id', { schema: rest['DELETE /messages/:id'] }, async (request) => {
    const { value } = await edits.delete(callerOf(request), { messageId: Number(request.params.id), ...dedupe(request.query) })
    const { messageId, targetId } = await value
    return { data: { message_id: messageId, target_id: targetId } }
  })
}
