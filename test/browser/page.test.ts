/// <reference lib="dom" />
import t from 'tap'
import { Client, SECRET } from '../cluster/client.js'
import { until } from '../cluster/until.js'
import { startHost } from '../hosts.js'
import { accessibility, comeIn, entry, fits, isVisibleIn, openBrowser, opens, PHONE, says, sees, texts, type Coming, type Person } from './browser.js'

/* The chat page as visitors meet it: on small screens, with many people, after a reload, with a line that fails. */

const host = await startHost({ env: { JWT_SECRET: SECRET, FRAMES_PER_SECOND: '0', MESSAGES_PER_MINUTE: '0' } })
t.teardown(async () => { await host.stop() })
const browser = await openBrowser(t)
const come = async (coming: Coming): Promise<Person> => await comeIn(t, browser, host.url, coming)

/** Somebody without a browser, whose name the host knows. */
async function arrive (userId: number, clubId: number, name: string): Promise<Client> {
  await fetch(`${host.url}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ userId, clubId, name }) })
  return await Client.connect(host, { userId, clubId })
}
const writes = async (client: Client, message: string): Promise<{ messageId: number }> =>
  await client.request('message:group', { channel: 'group.lobby', message, conversationId: 'group.lobby' }) as { messageId: number }
const writesTo = async (client: Client, recipientId: number, message: string): Promise<void> => {
  await client.request('message:direct', { recipientId, message, conversationId: 'x' })
}

const LONG = 'A name of a hundred characters '.repeat(4).slice(0, 100)
/** Written from right to left; of joined emoji; with a heap of marks on one letter. */
const NAMES = ['שם ארוך מאוד '.repeat(9).slice(0, 100), '👩‍👩‍👧‍👦🏳️‍🌈👨🏽‍🚀'.repeat(4), `Z${'\u0323\u0352\u0357'.repeat(33)}`]
const SCREENS = [
  ['a desktop', 1280, 800], ['a phone', 390, 800], ['a small phone', 320, 640], ['a phone held sideways', 667, 375], ['a page at 200 %', 640, 360]
] as const

t.test('With 300 people, of whom 40 type, long names and texts from right to left', async (t) => {
  const crowd: Client[] = []
  for (let i = 0; i < 300; i += 20) {
    crowd.push(...await Promise.all(Array.from({ length: 20 }, async (_, n) => await arrive(1000 + i + n, 1, i + n < 5 ? `${i + n} ${LONG}`.slice(0, 100) : NAMES[i + n - 5] ?? `Person ${i + n}`))))
  }
  const [ann] = await Promise.all([come({ name: LONG, userId: 1 }), ...crowd.slice(0, 40).map(async (client) => await client.request('subscribe', { channel: 'group.lobby' }))])
  const { page } = ann
  await writes(crowd[0]!, 'word '.repeat(1000).trim())
  await writes(crowd[0]!, 'x'.repeat(5000))
  await writes(crowd[1]!, 'שלום עולם, מה שלומך?')
  await says(ann, 'y'.repeat(300))
  await page.waitForSelector('#messages .mine .mark[aria-label=stored]')
  await Promise.all(crowd.slice(0, 40).map(async (client) => await client.request('user:typing', { conversationId: 'group.lobby', isTyping: true, channel: 'group.lobby' })))
  await page.waitForFunction(() => /^.+, .+, .+ and 37 others are typing…$/.test(document.querySelector('#typing')?.textContent ?? ''))

  for (const [name, width, height] of SCREENS) {
    await t.test(`on ${name} nothing is wider than the screen, and messages and input are in view`, async (t) => {
      await page.setViewportSize({ width, height })
      await page.waitForFunction(fits)
      for (const id of ['text', 'typing', 'drop']) t.ok(await page.evaluate(isVisibleIn, id), id)
      t.ok(await page.locator('#typing').evaluate((line) => line.clientHeight) < 40, 'typing takes one line')
      const scroller = await page.locator('#scroller').evaluate((box) => ({ height: box.clientHeight, below: box.scrollHeight - box.scrollTop - box.clientHeight }))
      t.ok(scroller.height > height * 0.45, `messages have ${scroller.height} of ${height}`)
      t.ok(scroller.below < 2, 'the newest is in view')
      t.equal(await page.locator('#messages .text').evaluateAll((all) => all.every((one) => one.getBoundingClientRect().width > 100)), true, 'no text is squeezed')
      if (width < 700) {
        await page.click('#back')
        await page.waitForFunction(fits)
        t.ok(await page.evaluate(isVisibleIn, 'find'))
        t.ok(await page.evaluate(() => document.documentElement.scrollHeight <= innerHeight), 'the list scrolls, and not the page')
        await entry(ann, 'lobby').click()
      }
    })
  }

  await t.test('text from right to left is shown that way everywhere on the page', async (t) => {
    t.equal(await page.locator('#messages .text', { hasText: 'שלום' }).evaluate((text) => getComputedStyle(text).direction), 'rtl')
    await page.setViewportSize({ width: 390, height: 800 })
    await page.evaluate(() => { document.documentElement.dir = 'rtl' })
    t.ok(await page.evaluate(fits))
    t.ok(await page.evaluate(isVisibleIn, 'text'))
    await page.evaluate(() => { document.documentElement.dir = 'ltr' })
    await page.click('#back')
    await page.fill('#find', NAMES[0]!.slice(0, 6))
    t.ok(await entry(ann, NAMES[0]!.trim()).locator('.name bdi').evaluate((name) => {
      const first = document.createRange()
      first.setStart(name.firstChild!, 0)
      first.setEnd(name.firstChild!, 1)
      return first.getBoundingClientRect().right <= name.parentElement!.getBoundingClientRect().right
    }), 'a long name is cut at its end')
    await page.fill('#find', '')
    await entry(ann, 'lobby').click()
    await page.setViewportSize({ width: 1280, height: 800 })
  })

  await t.test('a keyboard passes all people with one stop, and finds any of them by typing', async (t) => {
    await page.focus('#find')
    let stops = 0
    while (await page.evaluate(() => document.activeElement?.id) !== 'text' && stops < 20) {
      await page.keyboard.press('Tab')
      stops++
    }
    t.ok(stops < 8, `${stops} stops from the search to the message`)
    await page.focus('#find')
    await page.keyboard.type('person 299')
    await entry(ann, 'Person 299').waitFor()
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => document.querySelector('#title')?.textContent === 'Person 299')
    await page.focus('#find')
    await page.keyboard.type('gardening')
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => document.querySelector('#title')?.textContent === '#gardening')
    await opens(ann, 'lobby')
  })

  await t.test('every control has a name and every text its contrast, in all colours', async (t) => {
    const looks = [{ colorScheme: 'light' }, { colorScheme: 'dark' }, { colorScheme: 'light', forcedColors: 'active' }] as const
    for (const look of looks) {
      await page.emulateMedia(look)
      t.strictSame(await accessibility(page), [], JSON.stringify(look))
    }
    await page.emulateMedia({ colorScheme: 'light', forcedColors: 'none' })
    await page.press('#text', 'ArrowUp')
    await page.setViewportSize(PHONE)
    t.strictSame(await accessibility(page), [], 'a phone, while a message is edited')
    await page.press('#text', 'Escape')
    for (const [button, what] of [['#who', 'members'], ['#tap', 'the wire']] as const) {
      await page.click(button)
      t.strictSame(await accessibility(page), [], what)
      await page.goBack()
    }
    await writesTo(crowd[9]!, 1, 'To be noticed')
    await page.waitForSelector('#back .unread:has-text("1")')
    t.strictSame(await accessibility(page), [], 'an unread message, and its toast')
    await page.click('#back')
    t.strictSame(await accessibility(page), [], 'the list of a phone')
  })
  await ann.context.close()
  await Promise.all(crowd.map(async (client) => { await client.close() }))
})

t.test('Statuses differ by shape, where colours are forced', async (t) => {
  const clubId = 2
  const [away, busy, online, gone] = await Promise.all(['Away', 'Busy', 'Online', 'Gone'].map(async (name, i) => await arrive(i + 1, clubId, name)))
  await away?.request('user:presence', { status: 'away' })
  await busy?.request('user:presence', { status: 'busy', data: { text: 'in a meeting' } })
  const eva = await come({ name: 'Eva', userId: 9, clubId, options: { forcedColors: 'active' } })
  await writes(online!, 'to be listed')
  await sees(eva, 'Gone', 'online')
  await gone?.request('user:presence', { status: 'invisible' })
  for (const [name, status] of [['Away', 'away'], ['Busy', 'busy'], ['Online', 'online'], ['Gone', 'offline']] as const) await sees(eva, name, status)
  t.equal(await entry(eva, 'Busy').locator('.detail').textContent(), 'in a meeting')
  const shapes = await eva.page.locator('#people .dot').evaluateAll((dots) => dots.map((dot) => {
    const { borderRadius, backgroundImage, backgroundColor, boxShadow } = getComputedStyle(dot)
    return [borderRadius, backgroundImage, backgroundColor, boxShadow].join()
  }))
  t.equal(new Set(shapes).size, 4)
  await eva.context.close()
})

t.test('After a reload, direct conversations, the own status, unfinished text and the open conversation are back, and people who left keep their names', async (t) => {
  const clubId = 3
  const ben = await arrive(2, clubId, 'Ben')
  const zoe = await arrive(3, clubId, 'Zoe')
  await writes(zoe, 'I must go')
  // In no list any more, at once.
  await zoe.request('user:presence', { status: 'invisible' })
  await zoe.close()
  const ann = await come({ name: 'Ann', userId: 1, clubId })
  await opens(ann, 'Ben')
  await says(ann, 'Between us')
  await ann.page.waitForSelector('#messages .mine .mark[aria-label=stored]')
  await ann.page.selectOption('#status', 'busy')
  await ann.page.fill('#status-text', 'lunch')
  await ann.page.press('#status-text', 'Enter')
  await ben.next('user:presence', 10_000, ({ status, data }) => status === 'busy' && data?.text === 'lunch')
  await ann.page.fill('#text', 'half a sentence')
  await ann.page.reload()
  await ann.page.waitForSelector('#messages .text:text-is("Between us")')
  t.equal(await ann.page.inputValue('#text'), 'half a sentence')
  t.equal(await ann.page.textContent('#title'), 'Ben')
  await ann.page.waitForFunction(() => document.querySelector<HTMLSelectElement>('#status')?.value === 'busy')
  t.equal(await ann.page.inputValue('#status-text'), 'lunch')
  await opens(ann, 'lobby')
  await ann.page.waitForSelector('#messages .by:has-text("Zoe")')
  t.equal(await ann.page.getByText('User 3', { exact: true }).count(), 0)
  await ann.context.close()
})

t.test('A private message is noticed on a phone, and opened by a press; back is the list, as in any chat app', async (t) => {
  const clubId = 4
  const ben = await arrive(2, clubId, 'Ben')
  await ben.request('subscribe', { channel: 'group.lobby' })
  const ann = await come({ name: 'Ann', userId: 1, clubId, options: { viewport: PHONE, hasTouch: true } })
  await writesTo(ben, 1, 'Are you there?')
  await ann.page.waitForSelector('#back .unread:has-text("1")')
  t.match(await ann.page.title(), /^\(1\)/)
  await ann.page.click('#toasts button:has-text("Ben: Are you there?")')
  await ann.page.waitForSelector('#messages .text:text-is("Are you there?")')
  await until('it is read', 10_000, async () => await ann.page.textContent('#back .unread') === '')
  await ben.next('conversation:read', 10_000)
  const { page } = ann
  const isAt = async (view: string, title: string, side = ''): Promise<void> => {
    await page.waitForFunction((expected) => [document.body.dataset.view, document.querySelector('#title')?.textContent, document.body.dataset.side].join() === expected, [view, title, side].join())
  }
  await isAt('room', 'Ben')
  await page.goBack()
  await isAt('list', 'Ben')
  await page.reload()
  await entry(ann, 'lobby').click()
  await isAt('room', '#lobby')
  await page.click('#who')
  await isAt('room', '#lobby', 'members')
  await page.goBack()
  await isAt('room', '#lobby')
  await page.click('#who')
  await page.click('#members button:has-text("Ben")')
  await isAt('room', 'Ben')
  await page.reload()
  await page.waitForSelector('#light.on')
  await isAt('room', 'Ben')
  await page.click('#tap')
  await page.goBack()
  await page.goBack()
  await isAt('list', 'Ben')
  // Anybody can write an address.
  for (const hash of ['#%', '#with:everybody', '#secret']) {
    await page.goto(`${host.url}/${hash}`)
    await page.reload()
    await page.waitForSelector('#light.on')
    await isAt('room', '#lobby')
  }
  await ann.context.close()
})

t.test('A visitor who reads earlier messages stays there, and sees that there are new ones', async (t) => {
  const clubId = 5
  const ben = await arrive(2, clubId, 'Ben')
  for (let i = 0; i < 120; i++) await writes(ben, `message ${i}`)
  const ann = await come({ name: 'Ann', userId: 1, clubId })
  const { page } = ann
  await page.waitForSelector('#messages .text:text-is("message 119")')
  const first = await texts(ann)
  t.equal(first[0], 'message 70')
  await page.locator('#scroller').evaluate((box) => { box.scrollTop = 0 })
  await page.waitForSelector('#messages .text:text-is("message 20")')
  t.ok(await page.locator('#messages .text:text-is("message 70")').evaluate((text) => {
    const [row, box] = [text.getBoundingClientRect(), text.closest('#scroller')!.getBoundingClientRect()]
    return row.top >= box.top && row.bottom <= box.bottom
  }), 'what was being read is still in view')
  await writes(ben, 'the newest')
  await page.waitForSelector('#pill:text-is("↓ 1 new message")')
  await page.click('#pill')
  await page.waitForSelector('#pill', { state: 'hidden' })
  t.ok(await page.locator('#messages .text:text-is("the newest")').isVisible())
  await ann.context.close()
})

t.test('A blank name is refused, by the page and by the host', async (t) => {
  const page = await browser.newPage()
  await page.goto(host.url)
  t.strictSame(await accessibility(page), [])
  // Spaces; what has no width; marks without a letter; a letter that is blank.
  for (const name of ['   ', '\u200b\u2060', '\u0301\u0302', '\u3164']) {
    await page.fill('[name=name]', name)
    await page.click('#login button')
    t.equal(await page.locator('[name=name]').evaluate((input: HTMLInputElement) => input.validationMessage), 'Please enter a name.')
    const login = await fetch(`${host.url}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ userId: 1, clubId: 1, name }) })
    t.equal(login.status, 400)
  }
  t.equal(await page.isVisible('#login'), true)
  await page.close()
})
