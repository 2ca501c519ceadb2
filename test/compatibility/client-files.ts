/* What is written into the projects of test/compatibility/client.ts: programs, tests and pages that run the scenario. */

const SOCKETS = 'globalThis.WebSocket ? {} : { WebSocket: ws.WebSocket }'

export const program = {
  'main.mjs': `
    import { createClient } from 'fastify-realtime-client'
    import { scenario } from './scenario.mjs'
    const ws = globalThis.WebSocket ? null : await import('ws')
    console.log(await scenario(createClient, JSON.parse(process.env.WORLD), ${SOCKETS}))
  `,
  'main.cjs': `
    const { createClient } = require('fastify-realtime-client')
    const { scenario } = require('./scenario.cjs')
    const ws = globalThis.WebSocket ? null : require('ws')
    scenario(createClient, JSON.parse(process.env.WORLD), ${SOCKETS}).then(console.log, (err) => { console.error(err); process.exitCode = 1 })
  `
}

const jestTest = `
  const { createClient } = require('fastify-realtime-client')
  const { scenario } = require('./scenario.cjs')
  test('the scenario', async () => {
    const ws = globalThis.WebSocket ? null : require('ws')
    expect(await scenario(createClient, JSON.parse(process.env.WORLD), ${SOCKETS})).toBe('websocket')
  }, 40_000)
`
export const jest = {
  'node.test.cjs': jestTest,
  // This environment has no fetch.
  'jsdom.test.cjs': `/** @jest-environment jsdom */\nrequire('whatwg-fetch')\n${jestTest}`
}

export const vitest = {
  // In its jsdom environment the events of jsdom's own sockets are no events to Node.
  'client.vitest.mjs': `
    import { expect, test } from 'vitest'
    import { createClient } from 'fastify-realtime-client'
    import { scenario } from './scenario.mjs'
    test('the scenario', async () => {
      const isPlain = globalThis.WebSocket && !globalThis.document
      const { WebSocket } = isPlain ? globalThis : await import('ws')
      expect(await scenario(createClient, JSON.parse(process.env.WORLD), { WebSocket })).toBe('websocket')
    }, 40_000)
  `
}

export const html = '<!doctype html><html lang="en"><meta charset="utf-8"><title>page</title><main></main><script type="module" src="./main.js"></script></html>'

const inPage = (world: string): string => `
  import { createClient } from 'fastify-realtime-client'
  import { scenario } from './scenario.mjs'
  scenario(createClient, JSON.parse(${world})).then((transport) => { globalThis.result = transport }, (err) => { globalThis.result = String(err.stack) })
`
export const page = { 'main.mjs': inPage('decodeURIComponent(location.hash.slice(1))') }

export const jsdom = {
  'jsdom-page.mjs': `import 'whatwg-fetch'\n${inPage('world')}`,
  'jsdom.mjs': `
    import { readFileSync } from 'node:fs'
    import { JSDOM } from 'jsdom'
    const { window } = new JSDOM('<!doctype html>', { url: process.env.PAGE, runScripts: 'outside-only', pretendToBeVisual: true })
    window.world = process.env.WORLD
    window.eval(readFileSync('bundle.js', 'utf8'))
    while (!window.result) await new Promise((resolve) => setTimeout(resolve, 20))
    console.log(window.result)
    process.exit(/^(websocket|polling)$/.test(window.result) ? 0 : 1)
  `
}

export const react = {
  'react.mjs': `
    import { createElement, StrictMode, useEffect, useState } from 'react'
    import { createRoot } from 'react-dom/client'
    import { createClient } from 'fastify-realtime-client'
    const { baseUrl, tokens, channel } = JSON.parse(decodeURIComponent(location.hash.slice(1)))
    globalThis.mounted = 0

    /** A component whose effect starts a client, and whose cleanup ends it. */
    const useRoom = (start) => {
      const [messages, setMessages] = useState([])
      const [isReady, setReady] = useState(false)
      useEffect(() => {
        globalThis.mounted++
        const client = start()
        const off = client.on('message:group', ({ message }) => { setMessages((all) => [...all, message]) })
        client.subscribe(channel).then(() => { setReady(true) }, () => {})
        return () => {
          off()
          client.disconnect()
        }
      }, [])
      return createElement('p', { className: isReady ? 'ready' : '' }, messages.join())
    }
    const shared = createClient({ baseUrl, token: tokens[1], autoConnect: false })
    const Own = () => useRoom(() => createClient({ baseUrl, token: tokens[0] }))
    const Shared = () => useRoom(() => {
      shared.connect()
      return shared
    })
    createRoot(document.querySelector('main')).render(createElement(StrictMode, null, createElement(Own), createElement(Shared)))
  `
}
