import type { UserRate } from '../../lib/frame-router.js'
import { callerOf, ownRate } from '../../lib/plugin-kit/rest-scope.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import { rest } from './schemas.js'
import type { TypingRules } from './typing.js'

export function routes (scope: RestScope, typing: TypingRules, rate: UserRate): void {
  scope.post('/typing', {
    config: ownRate(rate),
    schema: rest['POST /typing']
  }, async (request) => {
    const { conversation_id, conversation_type, is_typing, channel, recipient_id } = request.body
    const { conversationId, isTyping, expiresAt } = await typing.record(callerOf(request), {
      conversationId: conversation_id,
      isTyping: is_typing,
      conversationType: conversation_type,
      channel,
      recipientId: recipient_id
    })
    return { data: { conversation_id: conversationId, is_typing: isTyping, expires_at: expiresAt } }
  })

  scope.get('/typing/:conversationId', { schema: rest['GET /typing/:conversationId'] }, async (request) => {
    const data = await typing.usersFor(callerOf(request), request.params.conversationId)
    return { data, count: data.length }
  })
}
