import type { FrameRouter } from '../../lib/frame-router.js'
import type { Conversations } from './conversations.js'
import type { Edits } from './edits.js'
import { clientEvents, serverEvents } from './schemas.js'

export function frames (router: FrameRouter, conversations: Conversations, edits: Edits): void {
  router.on({
    event: 'history',
    ...clientEvents.history,
    handle: async (context, data) => ({ ack: await conversations.history(context, data) })
  })
  router.on({
    event: 'conversation:read',
    ...clientEvents['conversation:read'],
    handle: async (context, data) => ({ ack: await conversations.read(context, data) })
  })
  router.on({
    event: 'message:edit',
    ...clientEvents['message:edit'],
    handle: async (context, data) => ({ ack: await edits.edit(context, data) })
  })
  router.on({
    event: 'message:delete',
    ...clientEvents['message:delete'],
    handle: async (context, data) => ({ ack: await edits.delete(context, data) })
  })
  router.describe({ server: serverEvents })
}
