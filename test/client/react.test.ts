import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { createElement, type ReactElement } from 'react'
import { renderToString } from 'react-dom/server'
import t from 'tap'
import { createClient } from '../../client/src/index.js'
import {
  RealtimeProvider, useChannel, useConversation, useEvent, useMembers, usePresence, useStatus, useTyping, useUnread
} from '../../client/src/react/index.js'

/* What needs no page; test/browser/react.test.ts has the rest. */

t.test('the hooks cost a page at most 4 KB beside the client, and import React and the client only', async (t) => {
  const { outputFiles: [bundle], metafile: { inputs } } = await build({
    entryPoints: ['client/src/react/index.ts'], bundle: true, minify: true, format: 'esm', target: 'es2020', external: ['react', '../index.js'], banner: { js: "'use client'" }, write: false, metafile: true
  })
  const size = gzipSync(bundle?.contents ?? '', { level: 9 }).length
  t.comment(`${size} bytes`)
  t.ok(size > 0 && size <= 4096, `${size} bytes`)
  t.strictSame(Object.keys(inputs).filter((name) => !/^client\/src\/(react\/|globals\.ts)/.test(name)), [])
})

function Everything (): ReactElement {
  const { state, userId } = useStatus()
  const { status } = useChannel('group.a')
  const { count } = useMembers('group.a')
  const { users } = useTyping({ with: 2 })
  const { messages, status: reading } = useConversation('group.a')
  const { total } = useUnread()
  useEvent('message:group', () => {})
  return createElement('p', null, [state, userId, status, count, users.length, messages.length, reading, total, usePresence(2)?.status, usePresence([2, 3]).size, useChannel(null).status].join())
}

t.test('a server renders the initial values, and connects nothing', (t) => {
  const fetch = (): never => { throw new Error('nothing is asked for') }
  const page = renderToString(createElement(RealtimeProvider, { options: { baseUrl: '/api/websocket', fetch }, children: createElement(Everything) }))
  t.equal(page, '<p>connecting,,subscribing,0,0,0,loading,0,,0,idle</p>')
  const client = createClient<{ 'order:paid': { order: number } }>({ baseUrl: '/api/websocket', autoConnect: false })
  t.equal(renderToString(createElement(RealtimeProvider, { client, children: createElement(Everything) })), page)
  t.equal(client.state, 'stopped')
  t.throws(() => renderToString(createElement(Everything)), /RealtimeProvider/)
  t.end()
})

/** Never called: `tsc` checks it. */
export function Typed (): void {
  useEvent('message:direct', ({ senderId, message }) => senderId + message.length)
  // @ts-expect-error no such event
  useEvent('order:paid', () => {})
  // @ts-expect-error no such field
  useEvent('message:direct', ({ channel }) => channel)
  // @ts-expect-error a channel, or a user
  useConversation({ channel: 'group.a' })
}
