/// <reference lib="dom" />
import { join } from 'node:path'
import type { BrowserContext, Page } from 'playwright-core'
import type { Test } from 'tap'
import { createServer } from 'vite'
import { doorTo, type Door } from '../client/harness.js'
import { until } from '../cluster/until.js'
import { temporaryFolder } from '../exit-hooks.js'
import { freePort } from '../free-port.js'
import { startHost, type Host } from '../hosts.js'
import { openBrowser, openPage } from './browser.js'

/** The client logs errors for which a component has no listener. */
const CUT_OFF = /^ClientError/

/** The app of example-react, as Vite serves it while one works on it: in StrictMode, every component is mounted twice. */
export interface ReactApp {
  readonly url: string
  readonly door: Door
  host: Host
  /** Starts the host again, which has crashed. */
  restart (env?: Record<string, string>): Promise<void>
  open (t: Test, name: string, context?: BrowserContext): Promise<Page>
  enter (t: Test, userId: number, name: string, context?: BrowserContext): Promise<Page>
  tokenOf (userId: number): Promise<string>
  get (userId: number, path: string): Promise<{ data: unknown }>
}

export async function startReactApp (t: Test): Promise<ReactApp> {
  const env = { SOCKET_PORT: String(await freePort()), DATABASE_URL: `sqlite:${join(temporaryFolder('react'), 'realtime.db')}` }
  const host = await startHost({ env })
  const door = await doorTo(t, host)
  process.env.HOST_URL = door.url
  const server = await createServer({
    root: 'example-react',
    configFile: 'example-react/vite.config.ts',
    cacheDir: temporaryFolder('vite'),
    logLevel: 'error',
    // The page must not reload while it is offline.
    server: { port: 0, host: '127.0.0.1', hmr: false }
  })
  await server.listen()
  t.teardown(async () => {
    await server.close()
    await app.host.stop()
  })
  const browser = await openBrowser(t)
  const app: ReactApp = {
    url: server.resolvedUrls?.local[0] ?? '',
    door,
    host,
    restart: async (more) => { app.host = await startHost({ env: { ...env, ...more } }) },
    async open (t, name, context) {
      const page = await openPage(t, context ?? await browser.newContext(), name, CUT_OFF)
      page.setDefaultTimeout(30_000)
      await page.goto(app.url)
      return page
    },
    async enter (t, userId, name, context) {
      const page = await app.open(t, name, context)
      await page.fill('[name=userId]', String(userId))
      await page.fill('[name=name]', name)
      await page.click('button')
      await connected(page)
      return page
    },
    async tokenOf (userId) {
      const answer = await fetch(`${app.host.url}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ userId, clubId: 1 }) })
      return (await answer.json() as { token: string }).token
    },
    get: async (userId, path) =>
      await (await fetch(`${app.host.url}/api/websocket${path}`, { headers: { authorization: `Bearer ${await app.tokenOf(userId)}` } })).json() as { data: unknown }
  }
  return app
}

export const connected = async (page: Page): Promise<void> => { await page.waitForSelector('#state:text-is("connected")') }

export const say = async (page: Page, text: string): Promise<void> => {
  await page.fill('[placeholder=Message]', text)
  await page.press('[placeholder=Message]', 'Enter')
}

/** Until these messages are shown, and no others. */
export const shows = async (page: Page, ...expected: string[]): Promise<void> => {
  await until(`${expected.join()} is shown`, 20_000, async () => {
    const found = (await page.locator('li .text').allTextContents()).join()
    if (found !== expected.join()) throw new Error(found)
    return true
  })
}
