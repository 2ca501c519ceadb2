import type { WebSocketClient } from './client.js'
import { ClientError } from './errors.js'
import type { Scope } from './scope.js'
import type { Core } from './state.js'

/** The properties and methods of {@link WebSocketClient}. */
export function createApi (core: Core): WebSocketClient<Record<string, object>> {
  const scope = (): Scope => core.run.ended ? core.life : core.user
  const query = (path: string) => (query: object = {}): Promise<never> => core.get(scope(), path, query) as never
  if (core.autoConnect) core.connect()
  return {
    get connectionId () { return core.connectionId },
    get state () { return core.transport ? 'connected' : core.run.ended ? 'stopped' : 'connecting' },
    get transport () { return core.transport },
    get cursors () {
      const cursors: Record<string, number | undefined> = {}
      for (const { channel, cursor } of core.wanted.values()) cursors[channel] = cursor
      return cursors
    },
    get epoch () { return core.epoch },
    get userId () { return core.me },
    on: core.on,
    connect: core.connect,
    disconnect: async () => {
      const unregistered = core.unregister()
      core.stop(new ClientError('RT_CLIENT_STOPPED'), { closeCode: 1000 })
      await unregistered
    },
    wake: core.wake,
    subscribe: core.subscribe,
    unsubscribe: core.unsubscribe,
    send: (event: string, data: object) => {
      core.typing.sent((data as { conversationId?: string }).conversationId)
      return core.enqueue(event, data)
    },
    request: core.request,
    recordTyping: (conversationId, isTyping, audience) => {
      // A queued typing update would arrive too late.
      if (core.transport) core.typing.record(conversationId, isTyping, audience)
    },
    updatePresence: (status, details) => core.request('user:presence', { status, ...details }) as never,
    watch: core.watch,
    history: query('/history'),
    conversations: query('/conversations'),
    markRead: (conversation, messageId) => core.request('conversation:read', { ...conversation, messageId }) as never,
    edit: (messageId, message, data) => core.enqueue('message:edit', { messageId, message, data }),
    delete: (messageId) => core.enqueue('message:delete', { messageId }),
    getPresence: async (userId) => (await query('/presence')({ userIds: userId }) as { data: never }).data[0],
    getOnlineUsers: async () => (await query('/online-users')({ limit: 500 }) as { data: never }).data,
    get: (path) => core.call(scope(), path)
  }
}
