import vm from 'node:vm'
import { build } from 'esbuild'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import type * as Client from '../../client/src/index.js'
import { scenario } from '../compatibility/client-scenario.js'
import { allowAll, buildHost, PREFIX, tokenOf, user } from '../helper.js'

/* The client in a realm that has the globals of a platform and no others, against a real host. */

const { outputFiles: [script] } = await build({
  entryPoints: ['client/src/index.ts'], bundle: true, format: 'iife', globalName: 'realtime', target: 'es2020', write: false
})
const host = await buildHost(t, { backend: 'embedded', options: allowAll })

/** What came after ES2020, which neither has in full. */
const TOO_NEW = `
  for (const name of ['at', 'findLast', 'findLastIndex', 'toReversed', 'toSorted', 'toSpliced', 'with']) delete Array.prototype[name]
  for (const name of ['at', 'replaceAll', 'isWellFormed', 'toWellFormed']) delete String.prototype[name]
  for (const name of ['hasOwn', 'groupBy']) delete Object[name]
  for (const name of ['any', 'withResolvers', 'try']) delete Promise[name]
  for (const name of ['union', 'intersection', 'difference']) delete Set.prototype[name]
  for (const name of ['WeakRef', 'FinalizationRegistry', 'AggregateError', 'WebAssembly', 'SharedArrayBuffer', 'Atomics', 'Iterator']) delete globalThis[name]
  delete Map.groupBy
  delete Array.fromAsync
`

/** A socket as browsers and React Native have it: no terminate(), and send() throws while it connects. */
class PlainSocket {
  readonly #socket: WebSocket
  constructor (url: string) { this.#socket = new WebSocket(url, { origin: host.url }) }
  send (text: string): void { this.#socket.send(text) }
  close (code?: number): void { this.#socket.close(code) }
  addEventListener (type: 'message', listener: () => void): void { this.#socket.addEventListener(type, listener) }
}

/** Requests without what the platform's fetch does not have. */
const plainFetch: Client.Fetch = async (url, init) => {
  const { ok, status, headers, ...response } = await fetch(url, init as RequestInit).then(async (answer) => ({
    ok: answer.ok, status: answer.status, headers: answer.headers, text: await answer.text()
  }))
  return { ok, status, headers: { get: (name) => headers.get(name) }, json: async () => JSON.parse(response.text) as unknown }
}

/** Without `timeout` and `any`, which both platforms lack. */
class PlainAbortController {
  readonly #abort = new AbortController()
  get signal (): AbortSignal { return this.#abort.signal }
  abort (): void { this.#abort.abort() }
}

const common = { setTimeout, clearTimeout, fetch: plainFetch, WebSocket: PlainSocket, AbortController: PlainAbortController, performance: { now: () => performance.now() }, console }

/** React Native's own URL knows little: it adds a slash at the end, and has no parts. */
class PoorUrl {
  readonly href: string
  constructor (url: string) { this.href = url.endsWith('/') ? url : `${url}/` }
}

let users = 100
async function run (t: Test, globals: object, baseUrl: string): Promise<void> {
  const realm = vm.createContext({ ...globals })
  vm.runInContext(`'use strict'; globalThis.window = globalThis.self = globalThis; ${TOO_NEW}`, realm)
  const client = vm.runInContext(`${script?.text}; realtime`, realm) as typeof Client
  t.equal(vm.runInContext('typeof structuredClone + typeof process + typeof TextEncoder', realm), 'undefinedundefinedundefined')
  const world = { baseUrl, tokens: [1, 2].map(() => tokenOf(user(++users))), channel: 'group.platforms' }
  t.equal(await scenario(client.createClient, world), 'websocket')
}

t.test('with the globals of React Native it connects, sends, receives and disconnects', async (t) => {
  await run(t, { ...common, URL: PoorUrl, navigator: { product: 'ReactNative' } }, host.url + PREFIX)
})

t.test('with the globals of Safari 15 it does so from a relative address, and follows the page', async (t) => {
  const listeners: string[] = []
  const target = { addEventListener: (type: string) => { listeners.push(type) }, removeEventListener: (type: string) => { listeners.splice(listeners.indexOf(type), 1) } }
  await run(t, { ...common, ...target, URL, location: { href: `${host.url}/page` }, document: { ...target, hidden: false }, crypto: { getRandomValues: () => {} } }, PREFIX)
  t.strictSame(listeners, [], 'it has let go of the page')
})

t.test('with nothing but timers, and the rest passed in, it works as well', async (t) => {
  const realm = vm.createContext({ setTimeout, clearTimeout })
  vm.runInContext(TOO_NEW, realm)
  const client = vm.runInContext(`${script?.text}; realtime`, realm) as typeof Client
  const world = { baseUrl: host.url + PREFIX, tokens: [1, 2].map(() => tokenOf(user(++users))), channel: 'group.platforms' }
  t.equal(await scenario(client.createClient, world, { fetch: plainFetch, WebSocket: PlainSocket }), 'websocket')
})
