/// <reference lib="dom" />
import type { Page } from 'playwright-core'
import t from 'tap'
import { Client } from '../cluster/client.js'
import { startProxy } from '../cluster/proxy.js'
import { until } from '../cluster/until.js'
import { startBalancer } from './balancer.js'
import { accessibility, comeIn, DESKTOP, openBrowser, openPage, opens, PHONE, says, sees, texts } from './browser.js'
import { startNodes } from './nodes.js'

t.test('Two nodes behind a load balancer', async (t) => {
  const [a, b] = await startNodes(t, { NODE_NAME: 'node-a' }, { NODE_NAME: 'node-b' })
  const balancer = await startBalancer(t, [a.port, b.port])
  const browser = await openBrowser(t)
  const dashboard = await openPage(t, await browser.newContext({ viewport: DESKTOP }), 'dashboard')
  await dashboard.goto(`${balancer.url}/dashboard.html`)
  const ann = await comeIn(t, browser, balancer.url, { name: 'Ann', userId: 1 })
  balancer.first = 1
  const ben = await comeIn(t, browser, balancer.url, { name: 'Ben', userId: 2 })
  const member = await Client.connect(b, { userId: 7 })
  // One more than the other node has: of two lines at the same height only one can be seen.
  await Client.connect(b, { userId: 8 })

  await t.test('the dashboard shows both nodes, each with its figures and its own colour', async (t) => {
    for (const node of ['node-a', 'node-b']) await dashboard.waitForSelector(`#nodes tr:has(th:has-text("${node}"))`)
    await member.request('message:direct', { recipientId: 99, message: 'for somebody who never comes', conversationId: 'x' })
    for (let i = 0; i < 20; i++) await says(ann, `message ${i}`)
    await until('messages are counted', 10_000, async () => await figure(dashboard, 'Messages/s') > 0)
    await until('and deliveries', 10_000, async () => await figure(dashboard, 'Deliveries/s') > 0)
    await until('connections are', 10_000, async () => await figure(dashboard, 'Connections') === 5)
    await until('what waits for somebody is pending', 10_000, async () => await figure(dashboard, 'Pending events') >= 1)
    t.equal(await figure(dashboard, 'Failed events'), 0)
    for (const title of ['Connections', 'Event-loop delay, p99, ms']) {
      await until(`${title} is drawn in the colours of its legend`, 10_000, async () => await dashboard.evaluate(drawnColors, title) === 2)
    }
    t.strictSame(await dashboard.locator('#nodes tr').first().locator('td').allTextContents().then((cells) => cells.slice(-2)), ['ok', 'ok'], 'database and Redis')
    t.match(await dashboard.locator('#charts [role=img]').first().getAttribute('aria-label'), /^Now: node-a \d+, node-b \d+$/, 'and said')
  })

  await t.test('a killed node’s users move to the other within seconds, and messages sent meanwhile appear once', async (t) => {
    await b.kill()
    const killedAt = Date.now()
    await ben.page.waitForSelector('#light:not(.on)')
    const sent = Array.from({ length: 10 }, (_, i) => `while the node was dead ${i}`)
    for (const text of sent) await says(ann, text)
    await ben.page.waitForSelector('#light.on')
    const seconds = (Date.now() - killedAt) / 1000
    t.comment(`connected again after ${seconds} s`)
    t.ok(seconds < 10, `${seconds} s`)
    await says(ben, 'Back again')
    for (const person of [ann, ben]) {
      await until('all is shown', 10_000, async () => (await texts(person)).at(-1) === 'Back again')
      const shown = await texts(person)
      t.equal(new Set(shown).size, shown.length, 'once')
      t.strictSame(shown.filter((text) => sent.includes(text)), sent, 'in order')
    }
    await sees(ann, 'Ben', 'online')
  })

  await t.test('the dashboard shows which node is down, and counts the connections that are left', async (t) => {
    await dashboard.waitForSelector('#nodes tr.gone:has(th:has-text("node-b, gone"))')
    await until('its connections are not counted any more', 10_000, async () => await figure(dashboard, 'Connections') === 3)
    t.equal(await dashboard.locator('#nodes tr:not(.gone)').count(), 1)
    t.equal(await dashboard.textContent('#state'), 'Live, every 2 seconds')
    for (const colorScheme of ['light', 'dark'] as const) {
      await dashboard.emulateMedia({ colorScheme })
      t.strictSame(await accessibility(dashboard), [], colorScheme)
    }
    await dashboard.setViewportSize(PHONE)
    await until('it fits a phone', 10_000, async () => await dashboard.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
  })

  await t.test('where sockets are blocked, the page works with server-sent events, and shows that', async (t) => {
    const proxy = await startProxy(a.port)
    t.teardown(async () => { await proxy.close() })
    proxy.inspect = (bytes, link) => {
      const isUpgrade = /\r\nupgrade: websocket\r\n/i.test(bytes.toString('latin1'))
      if (isUpgrade) link.cut()
      return !isUpgrade
    }
    const cleo = await comeIn(t, browser, `http://127.0.0.1:${proxy.port}`, { name: 'Cleo', userId: 3 })
    t.equal(await cleo.page.textContent('#state'), 'Connected by server-sent events: sockets are blocked')
    await says(cleo, 'Can you hear me?')
    await ann.page.waitForSelector('#messages .text:text-is("Can you hear me?")')
    await says(ann, 'Loud and clear')
    await cleo.page.waitForSelector('#messages .text:text-is("Loud and clear")')
    await opens(cleo, 'Ann')
    await says(cleo, 'And only you?')
    await opens(ann, 'Cleo')
    await ann.page.waitForSelector('#messages .text:text-is("And only you?")')
    proxy.inspect = () => true
    await cleo.page.waitForSelector('#light.on', { timeout: 30_000 })
    t.equal(await cleo.page.textContent('#state'), 'Connected')
  })

  await t.test('only operators may watch: the figures cover all clubs', async (t) => {
    for (const who of [{ userId: 1, admin: true }, { userId: 1, clubId: 999_999_999 }]) {
      const client = await Client.connect(a, who)
      await t.rejects(client.request('subscribe', { channel: 'figures' }), { code: 'RT_FORBIDDEN' })
      await client.close()
    }
    const operator = await Client.connect(a, { userId: 1, clubId: 999_999_999, admin: true })
    await t.rejects(operator.request('message:group', { channel: 'figures', message: 'x', conversationId: 'x' }), { code: 'RT_FORBIDDEN' })
    await operator.request('subscribe', { channel: 'figures' })
    t.match((await operator.next('node:figures')).data, { node: 'node-a', connections: Number, pending: Number, delay: Number })
  })
})

/** One of the totals; NaN: not known yet. */
const figure = async (page: Page, title: string): Promise<number> =>
  Number(await page.textContent(`#totals div:has(dt:text-is("${title}")) dd`))

/** How many colours of its legend are found in a chart's canvas. Runs in the page. */
function drawnColors (title: string): number {
  const chart = Array.from(document.querySelectorAll('#charts figure')).find((one) => one.querySelector('strong')?.textContent === title)
  const canvas = chart?.querySelector('canvas')
  const pixels = canvas?.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? []
  const wanted = Array.from(chart?.querySelectorAll('.swatch') ?? []).map((swatch) => (getComputedStyle(swatch).backgroundColor.match(/\d+/g) ?? []).map(Number))
  return wanted.filter(([r = 0, g = 0, b = 0]) => {
    for (let i = 0; i < pixels.length; i += 4) {
      if (Math.abs((pixels[i] ?? 0) - r) + Math.abs((pixels[i + 1] ?? 0) - g) + Math.abs((pixels[i + 2] ?? 0) - b) < 12 && (pixels[i + 3] ?? 0) > 200) return true
    }
    return false
  }).length
}
