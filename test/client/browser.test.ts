/// <reference lib="dom" />
import type { AddressInfo } from 'node:net'
import { build } from 'esbuild'
import type { FastifyInstance } from 'fastify'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { openPage } from '../browser/browser.js'
import { allowAll, buildHost, connect, tokenOf, until, user, type Host } from '../helper.js'
import { locateCommands } from '../install-packages.js'

/* Where a browser is the point: a page's policy, the back-forward cache, several tabs. */

type Client = import('../../client/src/index.js').WebSocketClient // eslint-disable-line @typescript-eslint/consistent-type-imports -- of the page
declare const client: Client
declare const emitted: Array<{ event: string, data: Record<string, unknown> }>

const { outputFiles: [script] } = await build({
  entryPoints: ['client/src/index.ts'], bundle: true, format: 'iife', globalName: 'realtime', target: 'safari15', write: false
})

const PAGE = (token: string) => `<!doctype html><title>page</title><script src="/client.js"></script><script src="/start.js?${token}"></script>`
const START = `
  const emitted = []
  const client = new realtime.WebSocketClient({ baseUrl: '/api/websocket', token: document.currentScript.src.split('?')[1], pollInterval: 200, reconnectDelay: 200 })
  for (const event of ['connected', 'disconnected', 'transport', 'message:group', 'error', 'gap']) client.on(event, (data) => { emitted.push({ event, data }) })
  client.subscribe('group.a').catch(() => {})
`

/** Chromium with its back-forward cache, which test tools switch off. */
const executablePath = process.env.CHROMIUM_PATH || (await locateCommands('chromium')).chromium
const browser = await chromium.launch({
  executablePath, args: ['--no-sandbox', '--disable-gpu', '--no-first-run'], ignoreDefaultArgs: ['--disable-back-forward-cache']
})
t.teardown(async () => { await browser.close() })

/** A host that also serves the page, with this policy. */
async function site (t: Test, policy: (port: number) => string): Promise<Host> {
  let port = 0
  const host = await buildHost(t, {
    backend: 'embedded',
    options: allowAll,
    before: (app: FastifyInstance) => {
      app.get('/', async (request, reply) => await reply.headers({ 'content-type': 'text/html', 'content-security-policy': policy(port) }).send(PAGE((request.query as { token: string }).token)))
      app.get('/elsewhere', async (_request, reply) => await reply.header('content-type', 'text/html').send('<!doctype html><title>elsewhere</title>'))
      app.get('/client.js', async (_request, reply) => await reply.header('content-type', 'text/javascript').send(script?.text))
      app.get('/start.js', async (_request, reply) => await reply.header('content-type', 'text/javascript').send(START))
    }
  })
  port = (host.app.server.address() as AddressInfo).port
  return host
}
const STRICT = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"

const open = async (context: BrowserContext, host: Host, userId: number): Promise<Page> => {
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  await page.goto(`${host.url}/?token=${tokenOf(user(userId))}`)
  return page
}
const connected = async (page: Page, times = 1): Promise<void> => {
  await page.waitForFunction((times) => emitted.filter(({ event }) => event === 'connected').length >= times, times)
  await page.waitForFunction(() => 'group.a' in client.cursors && client.cursors['group.a'] !== undefined)
}
const messages = async (page: Page): Promise<unknown[]> => await page.evaluate(() => emitted.filter(({ event }) => event === 'message:group').map(({ data }) => data.message))
const say = async (host: Host, message: string): Promise<void> => {
  const writer = await connect(host, user(9))
  await writer.request('message:group', { channel: 'group.a', message, conversationId: 'c' })
  await writer.end()
}

t.test('a page with a strict policy needs nothing but its own origin', async (t) => {
  const host = await site(t, () => STRICT)
  const context = await browser.newContext()
  const page = await openPage(t, context, 'Ann')
  await page.goto(`${host.url}/?token=${tokenOf(user(1))}`)
  await connected(page)
  t.equal(await page.evaluate(() => client.transport), 'websocket')
  await say(host, 'hello')
  await page.waitForFunction(() => emitted.some(({ event }) => event === 'message:group'))
  await context.close()
})

t.test('a page whose policy forbids sockets uses server-sent events instead of waiting forever', async (t) => {
  const host = await site(t, (port) => `default-src 'none'; script-src 'self'; connect-src http://127.0.0.1:${port}`)
  const context = await browser.newContext()
  const page = await open(context, host, 1)
  await page.waitForFunction(() => client.transport === 'sse')
  await connected(page)
  await say(host, 'hello')
  await until('it is delivered', async () => (await messages(page)).length > 0)
  t.strictSame(await page.evaluate(() => emitted.filter(({ event }) => event === 'error').map(({ data }) => data.code)), ['RT_SOCKET_BLOCKED'])
  await context.close()
})

t.test('a page that leaves the back-forward cache reconnects immediately, and gets the missed events', async (t) => {
  const host = await site(t, () => STRICT)
  const context = await browser.newContext()
  const page = await open(context, host, 2)
  await connected(page)
  await page.evaluate(() => { Object.assign(window, { isSame: true }) })
  await page.goto(`${host.url}/elsewhere`)
  await say(host, 'while it was away')
  await page.goBack({ waitUntil: 'commit' })
  t.equal(await page.evaluate(() => (window as { isSame?: boolean }).isSame), true, 'it was kept in the cache')
  await connected(page, 2)
  await until('it is delivered', async () => (await messages(page)).length > 0)
  t.strictSame(await messages(page), ['while it was away'])
  await context.close()
})

t.test('two tabs of one user receive everything once, including the other tab’s messages', async (t) => {
  const host = await site(t, () => STRICT)
  const context = await browser.newContext()
  const [one, two] = [await open(context, host, 3), await open(context, host, 3)]
  for (const page of [one, two]) await connected(page)
  await one.evaluate(async () => { await client.send('message:group', { channel: 'group.a', message: 'from the first', conversationId: 'c' }) })
  await say(host, 'from another')
  for (const page of [one, two]) await page.waitForFunction(() => emitted.some(({ data }) => data.message === 'from another'))
  t.strictSame(await messages(one), ['from another'])
  t.strictSame(await messages(two), ['from the first', 'from another'])
  await one.close()
  await say(host, 'last')
  await two.waitForFunction(() => emitted.some(({ data }) => data.message === 'last'))
  await context.close()
})
