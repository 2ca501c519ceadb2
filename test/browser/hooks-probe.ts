/// <reference lib="dom" />
import { createElement, StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import {
  RealtimeProvider, useChannel, useClient, useConversation, usePresence, useStatus, useTyping, useUnread, type Target
} from '../../client/src/react/index.js'

/** Shows a test what the hooks return, as `window.hooks`. */
export interface Hooks {
  client: ReturnType<typeof useClient>
  conversation: ReturnType<typeof useConversation>
  unread: ReturnType<typeof useUnread>
  typing: ReturnType<typeof useTyping>
  presence: ReturnType<typeof usePresence> | undefined
  refused: ReturnType<typeof useChannel>
  status: ReturnType<typeof useStatus>
}

function Probe ({ target }: { target: Target }): null {
  const hooks: Hooks = {
    client: useClient(),
    conversation: useConversation(target, { pageSize: 2 }),
    unread: useUnread(),
    typing: useTyping(target),
    presence: usePresence(2),
    refused: useChannel('forbidden'),
    status: useStatus()
  }
  Object.assign(window, { hooks })
  return null
}

/** Whoever changes `window.session.token` has another user with the next connection. */
export interface Session { token: string }

export function start (token: string, target: Target): void {
  const session: Session = { token }
  Object.assign(window, { session })
  const props = { options: { baseUrl: '/api/websocket', token: async () => session.token }, children: createElement(Probe, { target }) }
  createRoot(document.body.appendChild(document.createElement('div'))).render(createElement(StrictMode, null, createElement(RealtimeProvider, props)))
}
