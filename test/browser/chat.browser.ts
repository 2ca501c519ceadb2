/// <reference lib="dom" />
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import t from 'tap'
import { clusterFor } from '../cluster/cluster.js'
import { until } from '../cluster/until.js'
import { locateCommands } from '../install-packages.js'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** A person with a page of their own, in the club. */
interface Person { context: BrowserContext, page: Page }

const texts = async ({ page }: Person): Promise<string[]> => await page.locator('#messages li > div:last-child').allTextContents()
const says = async ({ page }: Person, text: string): Promise<void> => {
  await page.fill('#text', text)
  await page.press('#text', 'Enter')
}

t.test('Two people in the club, each on a node', async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const { chromium: installed } = await locateCommands('chromium')
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM_PATH ?? installed, args: FLAGS })
  t.teardown(async () => { await browser.close() })

  const comeIn = async (url: string, name: string, userId: number, viewport = { width: 1200, height: 780 }): Promise<Person> => {
    const context = await browser.newContext({ viewport })
    const page = await context.newPage()
    page.on('pageerror', (err) => { t.fail(`${name}: ${err.message}`) })
    page.on('dialog', (dialog) => { t.fail(`${name}: a script ran: ${dialog.message()}`) })
    await page.goto(url)
    await page.fill('[name=name]', name)
    await page.fill('[name=userId]', String(userId))
    await page.click('#login button')
    await page.waitForSelector('#light.on')
    return { context, page }
  }
  const ann = await comeIn(a.url, 'Ann', 1)
  const ben = await comeIn(b.url, 'Ben', 2)

  await t.test('hear each other in a group, and see who types', async (t) => {
    await ann.page.waitForSelector('#people button:has-text("Ben")')
    await ben.page.focus('#text')
    await ben.page.keyboard.type('He', { delay: 50 })
    await ann.page.waitForFunction(() => document.querySelector('#typing')?.textContent === 'Ben is typing…')
    await says(ben, 'Hello, Ann')
    await says(ann, 'Good to see you, Ben')
    for (const person of [ann, ben]) await until('both are shown', 5000, async () => (await texts(person)).join() === 'Hello, Ann,Good to see you, Ben')
    t.equal(await ann.page.textContent('#typing'), '', 'and typing is over')
  })

  await t.test('talk directly, and see what was delivered', async () => {
    await ann.page.click('#people button:has-text("Ben")')
    await says(ann, 'Just between us')
    await ann.page.waitForSelector('#messages .mine:has-text("✓✓")')
    await ben.page.waitForSelector('#people .unread')
    await ben.page.click('#people button:has-text("Ann")')
    await ben.page.waitForSelector('#messages li:has-text("Just between us")')
    for (const { page } of [ann, ben]) await page.click('#groups button:has-text("lobby")')
  })

  await t.test('what is written while one line is dead comes once and in order when it returns', async (t) => {
    await ben.context.setOffline(true)
    await ben.page.click('#drop')
    await ben.page.waitForSelector('#light:not(.on)')
    const sent = Array.from({ length: 20 }, (_, i) => `while you were away ${i}`)
    for (const text of sent) await says(ann, text)
    await until('they are stored', 5000, async () => (await ann.page.locator('#messages .mine:has-text("✓")').count()) >= 21)
    await ben.context.setOffline(false)
    await ben.page.click('#drop')
    await until('all are shown', 15_000, async () => (await texts(ben)).at(-1) === sent.at(-1))
    t.strictSame((await texts(ben)).slice(2), sent)
  })

  await t.test('a name and a message that are markup run no script', async (t) => {
    const eve = await comeIn(a.url, '<img src=x onerror=alert(1)>', 3)
    await says(eve, '<script>alert(2)</script><b onmouseover=alert(3)>bold</b>')
    await until('it is shown as text', 5000, async () => (await texts(ben)).at(-1)?.startsWith('<script>') === true)
    t.equal(await ben.page.locator('#messages script, #messages b, #people img').count(), 0)
    await eve.context.close()
  })

  await t.test('pictures for the docs: the page and the dashboard, wide and narrow', async (t) => {
    const carl = await comeIn(a.url, 'Carl', 4, { width: 390, height: 800 })
    for (const { page } of [ann, ben, carl]) await page.click('#groups button:has-text("coffee")')
    await says(ann, 'Who is at the club tonight?')
    await says(ben, 'I am, from eight. The projector is fixed.')
    await says(carl, 'On my way, writing from the phone')
    await ann.page.selectOption('#status', 'busy')
    await says(ben, 'What shall we do on Friday?')
    await ann.page.focus('#text')
    await ann.page.keyboard.type('I')
    await ben.page.waitForFunction(() => document.querySelector('#typing')?.textContent !== '')
    await ben.page.screenshot({ path: 'docs/page-desktop.png' })
    await carl.page.screenshot({ path: 'docs/page-phone.png' })
    const dashboard = await ann.context.newPage()
    await dashboard.goto(`${a.url}/dashboard.html`)
    for (let i = 0; i < 30; i++) {
      await says(ben, `message ${i}`)
      await dashboard.waitForTimeout(200)
    }
    await until('it draws', 5000, async () => Number(await dashboard.textContent('#figures dd')) >= 1)
    t.ok(await dashboard.locator('#charts canvas').count() >= 8)
    await dashboard.screenshot({ path: 'docs/dashboard-desktop.png' })
    await dashboard.setViewportSize({ width: 390, height: 800 })
    await dashboard.waitForTimeout(2500)
    await dashboard.screenshot({ path: 'docs/dashboard-phone.png' })
    await carl.context.close()
  })
})
