/// <reference lib="dom" />
import t from 'tap'
import { until } from '../cluster/until.js'
import type { Host } from '../hosts.js'
import { comeIn, entry, faintTexts, openBrowser, opens, PHONE, says, sees, texts, type Coming, type Person } from './browser.js'
import { startNodes } from './nodes.js'

const [a, b] = await startNodes(t, {}, {})
const browser = await openBrowser(t)

for (const [withoutSockets, clubId] of [[false, 1], [true, 2]] as const) t.test(`People of the club, on two nodes, over ${withoutSockets ? 'server-sent events' : 'sockets'}`, async (t) => {
  const come = async (node: Host, coming: Coming): Promise<Person> => await comeIn(t, browser, node.url, { ...coming, clubId, withoutSockets })
  const [ann, ben] = await Promise.all([come(a, { name: 'Ann', userId: 1, admin: true }), come(b, { name: 'Ben', userId: 2 })])
  const typing = async ({ page }: Person, text: string): Promise<void> => {
    await page.waitForFunction((text) => document.querySelector('#typing')?.textContent === text, text)
  }

  await t.test('receive each other’s group messages, and see who types until the message is sent or abandoned', async (t) => {
    await sees(ann, 'Ben', 'online')
    await ben.page.locator('#text').pressSequentially('He')
    await typing(ann, 'Ben is typing…')
    await says(ben, 'Hello, Ann')
    await says(ann, 'Good to see you, Ben')
    for (const person of [ann, ben]) await until('both are shown', 10_000, async () => (await texts(person)).join() === 'Hello, Ann,Good to see you, Ben')
    t.equal(await ann.page.textContent('#typing'), '', 'what is sent is not typed any more')
    await ben.page.locator('#text').pressSequentially('No')
    await typing(ann, 'Ben is typing…')
    await ben.page.fill('#text', '')
    await typing(ann, '')
  })

  await t.test('see who is away and busy, and who is back', async () => {
    for (const status of ['away', 'busy', 'online']) {
      await ben.page.selectOption('#status', status)
      await sees(ann, 'Ben', status)
    }
  })

  await t.test('talk directly, and see what was delivered', async () => {
    await opens(ann, 'Ben')
    await says(ann, 'Just between us')
    await ann.page.waitForSelector('#messages .mine .mark:text-is("✓✓")')
    await ben.page.waitForSelector('#talks .unread')
    await opens(ben, 'Ann')
    await ben.page.waitForSelector('#messages .text:text-is("Just between us")')
    for (const person of [ann, ben]) await opens(person, 'lobby')
  })

  await t.test('get the nudge of one, and the broadcast of an admin', async (t) => {
    await opens(ben, 'Ann')
    await ben.page.click('#notify')
    await ann.page.waitForSelector('#toasts p:text-is("Ben nudges you")')
    await ann.page.fill('#announcement', 'The bar is open')
    await ann.page.press('#announcement', 'Enter')
    for (const { page } of [ann, ben]) await page.waitForSelector('#toasts .broadcast:text-is("Ann to everyone: The bar is open")')
    t.equal(await ben.page.isVisible('#broadcast'), false, 'only an admin can broadcast')
    await opens(ben, 'lobby')
  })

  await t.test('see the same in a second tab as in the first, and are gone after the last tab', async (t) => {
    const cleo = await come(a, { name: 'Cleo', userId: 5 })
    const second = await come(b, { name: 'Cleo', userId: 5, context: cleo.context })
    await says(cleo, 'From my first tab')
    await second.page.waitForSelector('#messages .mine:has-text("From my first tab")')
    await opens(cleo, 'Ann')
    await says(cleo, 'Only for Ann')
    await opens(second, 'Ann')
    await second.page.waitForSelector('#messages .mine:has-text("Only for Ann")')
    await second.page.waitForSelector('#messages .mine .mark:text-is("✓✓")')
    await cleo.page.selectOption('#status', 'busy')
    await second.page.waitForFunction(() => document.querySelector<HTMLSelectElement>('#status')?.value === 'busy')
    await cleo.page.close()
    await sees(ben, 'Cleo', 'busy')
    await second.page.close()
    await sees(ben, 'Cleo', 'offline')
    t.match(await ben.page.textContent('#count'), '1 online')
  })

  await t.test('miss nothing: messages written while a connection is dead arrive once and in order when it is back', async (t) => {
    const before = (await texts(ben)).length
    await ben.context.setOffline(true)
    await ben.page.click('#drop')
    await ben.page.waitForSelector('#light:not(.on)')
    const sent = Array.from({ length: 20 }, (_, i) => `while you were away ${i}`)
    for (const text of sent) await says(ann, text)
    await says(ben, 'written without a line')
    await ben.page.waitForSelector('#messages .mine:last-child .mark:text-is("…")')
    await until('they are stored', 10_000, async () => await ann.page.locator('#messages .mine .mark:text-is("✓")').count() >= sent.length)
    // A single press: the line comes back by itself.
    await ben.context.setOffline(false)
    for (const person of [ann, ben]) {
      // Ben's own message is shown while it waits, so it says nothing about what he missed.
      await until('all are shown', 15_000, async () => (await texts(person)).length > before + sent.length)
      t.strictSame((await texts(person)).slice(before), [...sent, 'written without a line'], person.name)
    }
  })

  // What does not depend on how events travel.
  if (withoutSockets) return
  await t.test('run no script by a name or a message that is markup', async (t) => {
    const eve = await come(a, { name: '<img src=x onerror=alert(1)>', userId: 3 })
    await says(eve, '<script>alert(2)</script><b onmouseover=alert(3)>bold</b>')
    await until('it is shown as text', 10_000, async () => (await texts(ben)).at(-1)?.startsWith('<script>') === true)
    await sees(ben, eve.name, 'online')
    t.equal(await ben.page.locator('#messages script, #messages b, main img').count(), 0)
    await eve.context.close()
    const policy = (await fetch(a.url)).headers.get('content-security-policy') ?? ''
    t.match(policy, /default-src 'self'/)
    t.notMatch(policy, /unsafe/)
  })

  await t.test('use it by keyboard alone, and by ear', async (t) => {
    const { page } = ann
    await page.focus('#status')
    const order: string[] = []
    for (let i = 0; i < 12 && order.at(-1) !== 'Message'; i++) {
      await page.keyboard.press('Tab')
      order.push(await page.evaluate(() => {
        const { activeElement: at } = document
        return (at as HTMLInputElement).labels?.[0]?.textContent ?? at?.getAttribute('aria-label') ?? at?.textContent ?? ''
      }))
    }
    t.strictSame(order.map((name) => name.startsWith('#lobby') ? 'lobby' : name.trim()),
      ['Status text', 'Find people and rooms', 'lobby', 'To everyone in the club', 'Broadcast', 'Open as a second device', 'Leave', 'Messages', 'Message'], 'one stop for all conversations and people')
    await page.focus('#nav li button[tabindex="0"]')
    const focus = entry(ann, 'Ben')
    await page.keyboard.press('Home')
    for (let i = 0; i < 10 && !await focus.evaluate((button) => button === document.activeElement); i++) await page.keyboard.press('ArrowDown')
    await ben.page.selectOption('#status', 'away')
    await sees(ann, 'Ben', 'away')
    t.equal(await focus.evaluate((button) => button === document.activeElement), true, 'whoever changes does not take the focus away')
    await page.keyboard.press('Enter')
    t.equal(await page.textContent('#title'), 'Ben')
    await page.keyboard.type('By hand')
    await page.keyboard.press('Enter')
    await page.waitForSelector('#messages .mine [role=img][aria-label=delivered]')

    // A screen reader hears what is added to a log: what was read out before must not be made anew.
    await opens(ann, 'lobby')
    await page.evaluate(() => { document.querySelector('#messages li')?.setAttribute('data-read', '') })
    await says(ben, 'News')
    await page.waitForSelector('#messages .text:text-is("News")')
    t.equal(await page.locator('#messages li[data-read]').count(), 1)
    for (const unnamed of ['button', 'input', 'select']) {
      t.strictSame(await page.locator(unnamed).evaluateAll((all) => all.filter((one) => !(one.textContent || (one as HTMLInputElement).labels?.length)).map((one) => one.outerHTML)), [], `each ${unnamed} has a name`)
    }
    t.strictSame(await page.locator('[role=log], [role=status], [role=alert]').evaluateAll((all) => all.map(({ id }) => id)), ['refused', 'state', 'scroller', 'typing', 'problem', 'toasts'])
  })

  for (const colorScheme of ['light', 'dark'] as const) {
    await t.test(`read it on a phone, ${colorScheme}: nothing is wider than it, all can be reached, and text stands out`, async (t) => {
      const dan = await come(a, { name: 'Dan', userId: 4, options: { viewport: PHONE, colorScheme, hasTouch: true } })
      await says(dan, 'A word '.repeat(40))
      await dan.page.waitForSelector('#messages .mine')
      t.ok(await dan.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
      const { y = 0, height = 0 } = await dan.page.locator('#send button').boundingBox() ?? {}
      t.ok(y + height <= PHONE.height, 'the button is on the screen')
      t.strictSame(await dan.page.evaluate(faintTexts), [])
      await dan.context.close()
    })
  }
  await Promise.all([ann, ben].map(async ({ context }) => { await context.close() }))
})
