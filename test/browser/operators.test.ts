/// <reference lib="dom" />
import t from 'tap'
import { until } from '../cluster/until.js'
import { comeIn, DESKTOP, faintTexts, openBrowser, openPage, opens, says, sees, texts, type Person } from './browser.js'
import { startNodes } from './nodes.js'

/** Users of each kind of ids, and their club. */
const people = {
  integer: { ann: 1, ben: 2, cleo: 3, club: 1 },
  string: { ann: 'auth0|5f7c-ann', ben: 'ben+chat@example.com', cleo: '007', club: 'acme' }
}

const browser = await openBrowser(t)

for (const kind of ['integer', 'string'] as const) {
  t.test(`An operator at the dashboard, with ${kind} ids and two nodes`, async (t) => {
    const [a, b] = await startNodes(t, { IDS: kind }, { IDS: kind })
    const { ann: annId, ben: benId, cleo: cleoId, club } = people[kind]
    const come = async (name: string, userId: number | string): Promise<Person> => await comeIn(t, browser, b.url, { name, userId, clubId: club })
    const [ann, ben, cleo] = [await come('Ann', annId), await come('Ben', benId), await come('Cleo', cleoId)]
    const page = await openPage(t, await browser.newContext({ viewport: DESKTOP }), 'dashboard')
    await page.goto(`${a.url}/dashboard.html`)
    await page.fill('#of-club', String(club))
    await page.press('#of-club', 'Tab')
    const rowOf = (name: string): string => `#people-online tr:has(th bdi:text-is("${name} (${String({ Ann: annId, Ben: benId, Cleo: cleoId }[name])})"))`
    const does = async (label: string, outcome: RegExp): Promise<void> => {
      await page.click(`button[aria-label="${label}"]`)
      await until(label, 10_000, async () => outcome.test(await page.textContent('#outcome') ?? ''))
    }

    await t.test('sees the connected users with their addresses and channels', async (t) => {
      for (const name of ['Ann', 'Ben', 'Cleo']) await page.waitForSelector(rowOf(name))
      t.equal(await page.locator('#people-online tr').count(), 3)
      t.match(await page.textContent(`${rowOf('Ben')} td`), /^desktop, 127\.0\.0\.1$/)
      t.strictSame(await page.locator(`${rowOf('Ben')} option`).allTextContents().then((names) => names.toSorted()), ['group.coffee', 'group.lobby'])
      await page.waitForSelector('#rooms li:text-is("group.lobby: 3 members")')
      t.strictSame(await page.locator('#club-figures dd').allTextContents(), ['3', '3', '3', '0', '0', '3'])
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        t.strictSame(await page.evaluate(faintTexts), [], colorScheme)
      }
    })

    if (kind === 'string') {
      await t.test('where users have similar ids, who do not receive each other’s messages', async (t) => {
        const shouting = await comeIn(t, browser, a.url, { name: 'BEN', userId: String(benId).toUpperCase(), clubId: club })
        await opens(ann, 'Ben')
        await says(ann, 'Just between us')
        await ann.page.waitForSelector('#messages .mine .mark:text-is("✓✓")')
        await opens(ben, 'Ann')
        await ben.page.waitForSelector('#messages .text:text-is("Just between us")')
        await opens(shouting, 'Ann')
        t.strictSame(await texts(shouting), [])
        await ben.page.selectOption('#status', 'busy')
        await sees(ann, 'Ben', 'busy')
        await sees(ann, 'BEN', 'online')
        await shouting.context.close()
        await sees(ann, 'BEN', 'offline')
        for (const person of [ann, ben]) await opens(person, 'lobby')
      })
    }

    await t.test('kicks a user out of a group, who receives nothing from it afterwards', async (t) => {
      await page.selectOption(`${rowOf('Ben')} select`, 'group.lobby')
      await does('Kick Ben out of the channel', /^Kicked: 1 connection$/)
      await page.waitForSelector(`${rowOf('Ben')} option:text-is("group.lobby")`, { state: 'detached' })
      await says(ann, 'Without Ben')
      await cleo.page.waitForSelector('#messages .text:text-is("Without Ben")')
      await opens(ann, 'Ben')
      await says(ann, 'You were out')
      // What comes later has come: the other message would have come before it.
      await ben.page.waitForSelector('#talks .unread')
      t.strictSame(await texts(ben), [])
    })

    await t.test('closes a connection, which stays closed', async (t) => {
      await does('Close this connection of Ben', /^Closed: 1 connection$/)
      await ben.page.waitForFunction(() => document.querySelector('#state')?.textContent === 'Ended (4000)')
      await page.waitForSelector(rowOf('Ben'), { state: 'detached' })
      t.equal(await page.locator('#people-online tr').count(), 2)
    })

    await t.test('bans a user, who is disconnected and cannot reconnect until the ban is lifted', async (t) => {
      await does('Ban Cleo', /^Banned: 1 connection$/)
      await cleo.page.waitForFunction(() => document.querySelector('#state')?.textContent === 'Ended (4403)')
      await page.waitForSelector(rowOf('Cleo'), { state: 'detached' })
      await sees(ann, 'Cleo', 'offline')
      t.strictSame(await cleo.page.evaluate(statusOfStats, { userId: cleoId, clubId: club }), [403, 'RT_BANNED'])
      await page.fill('#unban-user', String(cleoId))
      await page.click('#unban button')
      await until('the ban is lifted', 10_000, async () => /^Unbanned/.test(await page.textContent('#outcome') ?? ''))
      await come('Cleo', cleoId)
      await page.waitForSelector(rowOf('Cleo'))
    })
  })
}

/** What REST answers a user who logs in anew: the status and the code of the error. Runs in the page. */
async function statusOfStats (who: { userId: number | string, clubId: number | string }): Promise<[number, string | undefined]> {
  const login = await fetch('/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(who) })
  const { token } = await login.json() as { token: string }
  const response = await fetch('/api/websocket/stats', { headers: { authorization: `Bearer ${token}` } })
  return [response.status, (await response.json() as { code?: string }).code]
}
