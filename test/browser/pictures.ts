/// <reference lib="dom" />
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Client } from '../cluster/client.js'
import { clusterFor } from '../cluster/cluster.js'
import { animate } from './animation.js'
import { startBalancer } from './balancer.js'
import { comeIn, DESKTOP, openBrowser, openPage, opens, PHONE, says, sees, type Person } from './browser.js'

/** Pictures for the docs, taken by hand: `SCREENSHOTS=docs npm test -- test/browser/pictures.ts`. */
const FOLDER = process.env.SCREENSHOTS
/** Of traffic. */
const SECONDS = 80

t.test('Pictures of the club and of the dashboard', { skip: FOLDER === undefined && 'SCREENSHOTS names no folder' }, async (t) => {
  const folder = FOLDER ?? ''
  mkdirSync(folder, { recursive: true })
  const { nodes: [a, b] } = await clusterFor(t, [{ env: { NODE_NAME: 'node-1' } }, { env: { NODE_NAME: 'node-2' } }])
  const browser = await openBrowser(t)
  const shot = async (page: Person['page'], name: string, fullPage = false): Promise<void> => {
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage })
  }

  const said = async (person: Person, text: string): Promise<void> => {
    await says(person, text)
    await person.page.waitForSelector(`#messages .mine:has(.text:text-is("${text}")) .mark:has-text("✓")`)
  }

  const [ines, ben, clara, davide, mika, yuki] = await Promise.all([
    comeIn(t, browser, b.url, { name: 'Ines Weber', userId: 1 }),
    comeIn(t, browser, a.url, { name: 'Ben Okafor', userId: 2 }),
    comeIn(t, browser, b.url, { name: 'Clara Lund', userId: 3 }),
    comeIn(t, browser, a.url, { name: 'Davide Rossi', userId: 4 }),
    comeIn(t, browser, a.url, { name: 'Mika Aalto', userId: 5, options: { viewport: PHONE, deviceScaleFactor: 2, hasTouch: true } }),
    comeIn(t, browser, b.url, { name: 'Yuki Tanaka', userId: 6 })
  ])
  const people = [ines, ben, clara, davide, mika, yuki]

  for (const person of people) await opens(person, 'coffee')
  await davide.page.selectOption('#status', 'busy')
  await davide.page.fill('#status-text', 'in the projection room')
  await davide.page.press('#status-text', 'Enter')
  await yuki.page.selectOption('#status', 'away')
  const talk: Array<[Person, string]> = [
    [ben, 'Morning! Who is at the club tonight?'],
    [ines, 'I am, from eight. The projector is fixed, by the way.'],
    [clara, 'You are a hero!'],
    [clara, 'I bring the popcorn, then.'],
    [mika, 'I will be a little late. Save me a seat?'],
    [ines, 'First row, next to the radiator.'],
    [davide, 'Which film is it going to be?'],
    [ben, 'Ines chooses. Last time we watched three hours of trains.']
  ]
  for (const [person, text] of talk) await said(person, text)
  await opens(clara, ines.name)
  await said(clara, 'Do you still have my umbrella?')
  await opens(clara, 'coffee')
  await ines.page.waitForSelector('#talks .unread')
  await sees(ines, davide.name, 'busy')
  await sees(ines, yuki.name, 'away')
  await clara.page.locator('#text').pressSequentially('Trains are')
  await ines.page.waitForSelector('#toasts button', { state: 'detached' })
  await clara.page.locator('#text').pressSequentially(' nice')
  await ines.page.waitForFunction(() => document.querySelector('#typing')?.textContent === 'Clara Lund is typing…')
  await shot(ines.page, 'page-desktop')

  await opens(mika, ines.name)
  await opens(ines, mika.name)
  await said(ines, 'Shall I really save you a seat?')
  await said(mika, 'Yes please! The tram stands still, I walk.')
  await said(mika, 'Is there any popcorn left?')
  await said(ines, 'Clara brings two bags. Hurry, Ben is hungry.')
  await said(mika, 'Ten minutes!')
  await mika.page.waitForFunction(() => Array.from(document.querySelectorAll('#messages .mine .mark')).every((mark) => mark.textContent === '✓✓'))
  await mika.page.waitForSelector('#messages .word:text-is("Read")')
  await ines.page.locator('#text').pressSequentially('See')
  await mika.page.waitForFunction(() => document.querySelector('#typing')?.textContent === 'Ines Weber is typing…')
  await mika.page.evaluate(() => { (document.activeElement as HTMLElement).blur() })
  await shot(mika.page, 'page-phone')
  await mika.page.click('#back')
  await shot(mika.page, 'page-phone-list')
  for (const { context } of people) await context.close()

  // Traffic for the dashboard, which rises and falls.
  const dashboard = await openPage(t, await browser.newContext({ viewport: DESKTOP, locale: 'en-GB' }), 'dashboard')
  await dashboard.goto(`${a.url}/dashboard.html`)
  await dashboard.fill('#of-club', '2')
  await dashboard.press('#of-club', 'Tab')
  const crowd = await Promise.all(Array.from({ length: 60 }, async (_, i) => await Client.connect(i % 5 < 3 ? a : b, { userId: 100 + i, clubId: 2 })))
  for (const client of crowd) {
    client.keep = false
    await client.request('subscribe', { channel: `group.${client.who.userId % 6}` })
  }
  for (let i = 0; i < 7; i++) await crowd[0]?.request('message:direct', { recipientId: 900 + i, message: 'Come by', conversationId: 'x' })
  let round = 0
  const traffic = setInterval(() => {
    round++
    crowd.forEach((client, i) => {
      if ((i * 7 + round) % 60 >= 9 + 6 * Math.sin(round / 35 + (i % 5 < 3 ? 0 : 2))) return
      client.request('message:group', { channel: `group.${client.who.userId % 6}`, message: 'hello', conversationId: 'x' }).catch(() => {})
    })
  }, 100)
  t.teardown(() => { clearInterval(traffic) })
  await dashboard.waitForTimeout(SECONDS * 1000)
  await shot(dashboard, 'dashboard-desktop', true)
  await dashboard.setViewportSize({ ...PHONE, height: 1150 })
  await dashboard.waitForTimeout(2500)
  await shot(dashboard, 'dashboard-phone')
})

t.test('An animated picture of a killed node, and of a message that no one misses', { skip: FOLDER === undefined && 'SCREENSHOTS names no folder' }, async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [{ env: { NODE_NAME: 'node-1' } }, { env: { NODE_NAME: 'node-2' } }])
  const balancer = await startBalancer(t, [a.port, b.port])
  const browser = await openBrowser(t)
  const options = { viewport: { width: 430, height: 470 } }
  const ann = await comeIn(t, browser, balancer.url, { name: 'Ann', userId: 1, options })
  balancer.first = 1
  const ben = await comeIn(t, browser, balancer.url, { name: 'Ben', userId: 2, options })
  const stage = await browser.newPage({ viewport: { width: 920, height: 590 } })
  const frames: Array<{ png: Buffer, ms: number }> = []
  const take = async (ms: number, caption: string, ofBen: string): Promise<void> => {
    const images = await Promise.all([ann, ben].map(async ({ page }) => (await page.screenshot()).toString('base64')))
    await stage.setContent(`<style>
      body { margin: 0; font: 17px system-ui, sans-serif; background: #10202b; color: #fff; display: grid; grid-template-columns: 430px 430px; gap: 10px 20px; padding: 14px 20px; }
      h1 { grid-column: 1 / 3; font-size: 20px; margin: 0; height: 28px } p { margin: 0; color: #bfe6df } .bad { color: #ffb4a8 } img { border-radius: 10px; display: block }
      </style><h1>${caption}</h1><p>Ann, on node-1</p><p class="${/killed/.test(ofBen) ? 'bad' : ''}">Ben, ${ofBen}</p>${images.map((image) => `<img width="430" src="data:image/png;base64,${image}">`).join('')}`)
    frames.push({ png: await stage.screenshot(), ms })
  }
  const shows = async ({ page }: Person, text: string): Promise<void> => { await page.waitForSelector(`#messages .text:text-is("${text}")`) }
  await says(ann, 'The film starts at eight.')
  await says(ben, 'I bring the popcorn.')
  await shows(ann, 'I bring the popcorn.')
  await ann.page.waitForSelector('#messages .word:text-is("Read by 1")')
  await take(2500, 'Two people, on two nodes', 'on node-2')
  // Longer than it takes, so that there is something to see.
  await ben.context.setOffline(true)
  await b.kill()
  await ben.page.waitForSelector('#light:not(.on)')
  await take(2500, 'kill -9 of node-2', 'whose node was killed')
  await says(ann, 'Which row?')
  await ann.page.waitForSelector('#messages .mine:last-child .mark[aria-label=stored]')
  await take(2000, 'Ann writes: her message is stored', 'whose node was killed')
  await says(ben, 'Save me a seat!')
  await ben.page.waitForSelector('#messages .mark:text-is("…")')
  await take(2500, 'Ben writes: his message waits', 'whose node was killed')
  await ben.context.setOffline(false)
  await shows(ben, 'Which row?')
  await shows(ann, 'Save me a seat!')
  await ben.page.waitForSelector('#light.on')
  await take(3500, 'Ben resumes on node-1: nothing is missing, nothing is there twice', 'now on node-1')
  await ben.page.click('#tap')
  await ben.page.locator('#frames .resumed').first().scrollIntoViewIfNeeded()
  await take(3500, 'What happened on the wire', 'now on node-1')
  writeFileSync(join(FOLDER ?? '', 'node-killed.png'), animate(frames))
})
