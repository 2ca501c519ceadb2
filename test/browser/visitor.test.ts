/// <reference lib="dom" />
import t from 'tap'
import { SECRET, tokenOf } from '../cluster/client.js'
import { until } from '../cluster/until.js'
import { startHost } from '../hosts.js'
import { comeIn, entry, openBrowser, opens, says, texts, type Coming, type Person } from './browser.js'

/* What a first visitor tries within two minutes, and what goes wrong meanwhile. */

const host = await startHost({ env: { JWT_SECRET: SECRET } })
t.teardown(async () => { await host.stop() })
const browser = await openBrowser(t)
const come = async (coming: Coming): Promise<Person> => await comeIn(t, browser, host.url, coming)
/** The own message with this text. */
const own = ({ page }: Person, text: string) => page.locator('#messages .mine', { has: page.locator(`.text:text-is("${text}")`) })

t.test('A visitor and a friend', async (t) => {
  const [ann, ben] = await Promise.all([come({ name: 'Ann', userId: 1 }), come({ name: 'Ben', userId: 2 })])

  await t.test('write directly, edit, and see it read; a second device of the reader knows it, too', async () => {
    await opens(ann, 'Ben')
    await says(ann, 'Lunch at noon?')
    await entry(ben, 'Ann').locator('.unread').waitFor()
    // The link for a second device fills the form in.
    const [second] = await Promise.all([ben.context.waitForEvent('page'), ben.page.click('#second')])
    await second.click('#login button')
    const device: Person = { ...ben, page: second }
    await second.waitForSelector('#light.on')
    await second.reload()
    await entry(device, 'Ann').locator('.unread').waitFor()
    await own(ann, 'Lunch at noon?').locator('.mark[aria-label=delivered]').waitFor()
    await own(ann, 'Lunch at noon?').hover()
    await own(ann, 'Lunch at noon?').locator('button:text-is("Edit")').click()
    await ann.page.fill('#text', 'Lunch at one?')
    await ann.page.press('#text', 'Enter')
    await own(ann, 'Lunch at one?').locator('.at:has-text("edited")').waitFor()
    await until('the list of the friend has the edit', 10_000, async () => await entry(ben, 'Ann').locator('.detail').textContent() === 'Lunch at one?')
    await opens(ben, 'Ann')
    await own(ann, 'Lunch at one?').locator('.word:text-is("Read")').waitFor()
    // Ben has written nothing.
    await ann.page.reload()
    await own(ann, 'Lunch at one?').locator('.word:text-is("Read")').waitFor()
    await ann.page.waitForSelector('#nobody:has-text("Everybody here is in your conversations")')
    await entry(device, 'Ann').locator('.unread').waitFor({ state: 'detached' })
    await opens(device, 'Ann')
    await until('it has the edit', 10_000, async () => (await texts(device)).join() === 'Lunch at one?')
    await second.close()
  })

  await t.test('delete a message for both, with a second press', async (t) => {
    await says(ann, 'Wrong window')
    await own(ann, 'Wrong window').locator('.mark').waitFor()
    await own(ann, 'Wrong window').hover()
    await own(ann, 'Wrong window').locator('button:text-is("Delete")').click()
    t.equal((await texts(ben)).at(-1), 'Wrong window')
    await own(ann, 'Wrong window').locator('button:text-is("Really delete?")').click()
    for (const person of [ann, ben]) await until('it is deleted', 10_000, async () => (await texts(person)).join() === 'Lunch at one?,Message deleted')
  })

  await t.test('edit the last message by keyboard: the arrow up, or Escape to leave it', async (t) => {
    await says(ann, 'Typo hree')
    await own(ann, 'Typo hree').locator('.mark[aria-label=read]').waitFor()
    await ann.page.press('#text', 'ArrowUp')
    t.equal(await ann.page.inputValue('#text'), 'Typo hree')
    await ann.page.press('#text', 'Escape')
    t.equal(await ann.page.inputValue('#text'), '')
    await ann.page.press('#text', 'ArrowUp')
    await ann.page.fill('#text', 'Typo here')
    await ann.page.press('#text', 'Enter')
    await until('the friend has it', 10_000, async () => (await texts(ben)).at(-1) === 'Typo here')
  })

  await t.test('keep their text when the message that they edit is deleted on another device', async (t) => {
    await says(ann, 'Not for long')
    await own(ann, 'Not for long').locator('.mark[aria-label=read]').waitFor()
    await ann.page.press('#text', 'ArrowUp')
    await ann.page.fill('#text', 'Not for long, but longer')
    const call = async (method: string, path: string) => await (await fetch(`${host.url}/api/websocket${path}`, { method, headers: { authorization: `Bearer ${tokenOf({ userId: 1 })}` } })).json()
    const { data: [{ data: { messageId } }] } = await call('GET', '/history?with=2&limit=1')
    await call('DELETE', `/messages/${messageId}`)
    await ann.page.waitForSelector('#problem:text-is("The message you were editing is deleted.")')
    t.equal(await ann.page.inputValue('#text'), 'Not for long, but longer')
    t.equal(await ann.page.isVisible('#editing'), false)
    await ann.page.fill('#text', '')
  })

  await t.test('drop the line with one press: it resumes by itself, nothing is missed, and the wire shows it', async (t) => {
    await ben.page.click('#drop')
    await ben.page.waitForSelector('#light:not(.on)')
    await says(ann, 'While you were away')
    await says(ben, 'Written without a line')
    await own(ben, 'Written without a line').locator('.mark[aria-label="waits for the line"]').waitFor()
    await ben.page.waitForSelector('#light.on')
    await ben.page.waitForSelector('#toasts p:text-is("Back again: nothing is missing")')
    const resumed = ben.page.locator('#frames .resumed', { hasText: 'nothing is missing' })
    await resumed.locator('summary').click()
    await until('what was resumed can be read as a whole', 10_000, async () => /^{\n "/.test(await resumed.locator('code').textContent() ?? ''))
    for (const person of [ann, ben]) await until('both are there', 10_000, async () => (await texts(person)).slice(-2).join() === 'While you were away,Written without a line')
    t.equal(await ben.page.textContent('#drop'), 'Drop the line')
    t.equal(await ben.page.locator('#frames .refused').count(), 0, 'and nothing was refused')
    t.ok(await ben.page.locator('#frames .ack:has-text("message:direct")').count() > 0, 'an ack with its time')
    t.equal(await ben.page.getByText(tokenOf({ userId: 2 }).slice(0, 20)).count(), 0, 'tokens are not shown')
  })

  await t.test('are invisible where they wish, and know it', async () => {
    await ben.page.selectOption('#status', 'invisible')
    await ben.page.waitForSelector('#unseen')
    await entry(ann, 'Ben').locator('.dot.offline').waitFor()
    await ben.page.selectOption('#status', 'online')
    await entry(ann, 'Ben').locator('.dot.online').waitFor()
  })

  await t.test('see messages that could not be sent, and send them again', async (t) => {
    const token = tokenOf({ userId: 9, clubId: 999_999_999, admin: true })
    const operate = async (path: string, body?: object) => await (await fetch(`${host.url}/operators/${path}`, {
      headers: { authorization: `Bearer ${token}`, ...body === undefined ? {} : { 'content-type': 'application/json' } },
      ...body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }
    })).json()
    const { users } = await operate('online?clubId=1')
    const { connections: [{ connectionId }] } = users.find(({ userId }: { userId: number }) => userId === 1)
    await operate('close', { clubId: 1, connectionId })
    await ann.page.waitForSelector('#again')
    await says(ann, 'Nobody hears me')
    const failed = ann.page.locator('#messages .failed', { hasText: 'Nobody hears me' })
    await failed.locator('.word:has-text("Not sent:")').waitFor()
    t.equal(await failed.locator('.mark').getAttribute('aria-label'), 'not sent')
    await ann.page.click('#again')
    await ann.page.waitForSelector('#light.on')
    await ann.page.reload()
    await failed.locator('button:text-is("Send again")').click()
    await until('the friend has it', 15_000, async () => (await texts(ben)).at(-1) === 'Nobody hears me')
    t.equal(await ann.page.locator('#messages .failed').count(), 0)
    t.equal((await texts(ann)).filter((text) => text === 'Nobody hears me').length, 1)
  })
})
