/// <reference lib="dom" />
import t from 'tap'
import { clusterFor } from '../cluster/cluster.js'
import { until } from '../cluster/until.js'
import { comeIn, openBrowser, opens, says, sees, texts } from './browser.js'

const IDS = { env: { IDS: 'string' } }

t.test('People with string ids, on two nodes', async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [IDS, IDS])
  const browser = await openBrowser(t)
  const [ann, ben] = await Promise.all([
    comeIn(t, browser, a.url, { name: 'Ann', userId: 'auth0|5f7c-ann', clubId: 'acme' }), comeIn(t, browser, b.url, { name: 'Ben', userId: 'ben+chat@example.com', clubId: 'acme' })
  ])
  const shouting = await comeIn(t, browser, b.url, { name: 'BEN', userId: 'BEN+chat@example.com', clubId: 'acme' })

  await t.test('receive each other’s group messages, with names', async () => {
    for (const name of ['Ben', 'BEN']) await sees(ann, name, 'online')
    await says(ben, 'Hello, Ann')
    await says(ann, 'Good to see you, Ben')
    for (const person of [ann, ben]) await until('both are shown', 10_000, async () => (await texts(person)).join() === 'Hello, Ann,Good to see you, Ben')
  })

  await t.test('talk directly, and users with similar ids receive nothing', async (t) => {
    await opens(ann, 'Ben')
    await says(ann, 'Just between us')
    await ann.page.waitForSelector('#messages .mine .mark:text-is("✓✓")')
    await opens(ben, 'Ann')
    await ben.page.waitForSelector('#messages .text:text-is("Just between us")')
    await opens(shouting, 'Ann')
    t.strictSame(await texts(shouting), [])
  })

  await t.test('see who is busy, and who went offline', async () => {
    await ben.page.selectOption('#status', 'busy')
    await sees(ann, 'Ben', 'busy')
    await sees(ann, 'BEN', 'online')
    await ben.context.close()
    await sees(ann, 'Ben', 'offline')
    await sees(ann, 'BEN', 'online')
  })

  await t.test('have a dashboard', async (t) => {
    const page = await (await browser.newContext()).newPage()
    await page.goto(`${a.url}/dashboard.html`)
    await page.waitForSelector('#light.on')
    t.ok(await page.waitForFunction(() => document.querySelectorAll('tbody tr').length > 0))
  })
})
