/** Hooks for React 18 and newer over the client. */
export { RealtimeProvider, useClient, useEvent, type RealtimeProviderProps } from './context.js'
export { useStatus, type Status } from './connection.js'
export { useChannel, useMembers, useTyping, type Channel, type ChannelName, type Members, type Target, type Typing } from './channels.js'
export { usePresence } from './presence.js'
export { useConversation, type Conversation, type ConversationActions, type ConversationOptions, type ConversationState } from './conversation.js'
export type { Message } from './messages.js'
export { useUnread, type Unread } from './unread.js'
