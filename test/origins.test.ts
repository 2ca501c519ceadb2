import { once } from 'node:events'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import type { ConnectionsOptions } from '../plugins/index.js'
import { PREFIX, tokenOf, user } from './helper.js'
import { otherHost, type OtherHost } from './other-hosts.js'

/** Whether a page of this origin may open a socket on a host. */
async function doorOf (t: Test, allowedOrigins: string[], options: OtherHost = {}): Promise<(headers: Record<string, string>) => Promise<boolean>> {
  const { url } = await otherHost(t, { ...options, connections: { allowedOrigins } })
  return async (headers) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}${PREFIX}/ws`, { headers: { authorization: `Bearer ${tokenOf(user(1))}`, ...headers } })
    const [first] = await Promise.race([once(socket, 'message'), once(socket, 'close')]) as [Buffer | number]
    socket.terminate()
    if (first === 4403) return false
    return first.toString().includes('"authenticated"')
  }
}

t.test('native shells and extensions are let in if their origin is listed, and others are not', async (t) => {
  const listed = ['capacitor://localhost', 'ionic://localhost', 'tauri://localhost', 'http://tauri.localhost', 'chrome-extension://abcdefghijklmnop',
    'moz-extension://0d4ee5a6-6b2a-4b5e-9b47-35f1f0a8f3b1', 'app://-', 'null']
  const isLetIn = await doorOf(t, listed)
  for (const origin of listed) t.ok(await isLetIn({ origin }), origin)
  for (const origin of ['capacitor://localhost.evil.example', 'capacitor://localhost:81', 'tauri://evil', 'chrome-extension://abcdefghijklmno', 'file://', 'app://', 'NULL', 'nullx']) {
    t.notOk(await isLetIn({ origin }), origin)
  }
})

t.test('an origin without a scheme or a host is let in nowhere, and null only where it is listed', async (t) => {
  const isLetIn = await doorOf(t, [])
  for (const origin of ['null', '', 'localhost', '//localhost', 'http://', 'javascript:alert(1)', '*']) t.notOk(await isLetIn({ origin }), origin)
})

t.test('case, and the port that a scheme implies, make no other origin', async (t) => {
  const isLetIn = await doorOf(t, ['HTTPS://App.Example.COM:443', 'http://localhost:80', 'https://müller.example', 'https://[2001:DB8::1]:8443'])
  for (const origin of ['https://app.example.com', 'https://APP.example.com', 'http://localhost', 'https://xn--mller-kva.example', 'https://[2001:db8::1]:8443']) {
    t.ok(await isLetIn({ origin }), origin)
  }
  for (const origin of ['https://app.example.com:80', 'http://app.example.com', 'http://localhost:443', 'https://[2001:db8::1]']) t.notOk(await isLetIn({ origin }), origin)
  for (const [origin, host] of [['http://app.example.com', 'APP.example.com:80'], ['http://app.example.com:8080', 'app.example.com:8080']] as const) {
    t.ok(await isLetIn({ origin, host }), host)
  }
  t.notOk(await isLetIn({ origin: 'http://app.example.com', host: 'app.example.com:8080' }))
})

t.test('behind a proxy that ends TLS the page’s own origin is let in, however the proxy names the protocol', async (t) => {
  const trusting = await doorOf(t, [], { fastify: { trustProxy: true } })
  const host = 'app.example.com'
  for (const proto of ['https', 'wss', 'WSS', 'HTTPS']) {
    t.ok(await trusting({ origin: 'https://app.example.com', host, 'x-forwarded-proto': proto }), proto)
    t.notOk(await trusting({ origin: 'http://app.example.com', host, 'x-forwarded-proto': proto }), proto)
    t.notOk(await trusting({ origin: 'https://evil.example', host, 'x-forwarded-proto': proto }), proto)
  }
  for (const proto of ['http', 'ws']) {
    t.ok(await trusting({ origin: 'http://app.example.com', host, 'x-forwarded-proto': proto }), proto)
    t.notOk(await trusting({ origin: 'https://app.example.com', host, 'x-forwarded-proto': proto }), proto)
  }
  t.ok(await trusting({ origin: 'https://app.example.com', host: 'node-1:3000', 'x-forwarded-proto': 'wss', 'x-forwarded-host': 'app.example.com:443' }))
  const wary = await doorOf(t, [])
  t.notOk(await wary({ origin: 'https://app.example.com', host, 'x-forwarded-proto': 'wss' }), 'a host that trusts no proxy')
})

t.test('an entry that is not an exact origin is refused, with the entry and the expected form', async (t) => {
  for (const wrong of ['https://*.example.com', '*', 'example.com', 'https://example.com/', 'https://example.com/app', 'https://user@example.com', 'https://', '', 'https://exa mple.com', 'https://example.com:99999']) {
    const options: ConnectionsOptions = { allowedOrigins: ['https://fine.example', wrong] }
    await t.rejects(otherHost(t, { connections: options }), { message: /^option "allowedOrigins\.1" .*scheme:\/\/host\[:port\]/ }, wrong)
  }
})
