/// <reference lib="dom" />
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Locator, type Page } from 'playwright-core'
import axe from 'axe-core'
import type { Test } from 'tap'
import { locateCommands } from '../install-packages.js'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** As behind a proxy that lets no WebSocket through: each fails without a word. */
const BLOCKED = `globalThis.WebSocket = class extends EventTarget {
  readyState = 0
  constructor () {
    super()
    setTimeout(() => { for (const event of [new Event('error'), new CloseEvent('close', { code: 1006 })]) this.dispatchEvent(event) }, 5)
  }
  send () {}
  close () {}
}`

export const DESKTOP = { width: 1200, height: 780 }
export const PHONE = { width: 390, height: 800 }

/** Somebody with a browser of their own: nothing is shared with the others. */
export interface Person {
  readonly name: string
  readonly context: BrowserContext
  readonly page: Page
}

export interface Coming {
  name: string
  userId: number | string
  clubId?: number | string
  admin?: boolean
  /** Of their context, unless they open another tab in one. */
  options?: BrowserContextOptions
  context?: BrowserContext
  /** WebSockets are blocked. */
  withoutSockets?: boolean
}

/** Chromium from Debian's package, or at CHROMIUM_PATH. It is closed when `t` is through. */
export async function openBrowser (t: Test): Promise<Browser> {
  const executablePath = process.env.CHROMIUM_PATH || (await locateCommands('chromium')).chromium
  const browser = await chromium.launch({ executablePath, args: FLAGS })
  t.teardown(async () => { await browser.close() })
  return browser
}

/**
 * A page on which no script fails, no dialog opens and no error is logged, also none about the page's own policy. `logs`: errors
 * that a test causes, which the page logs.
 */
export async function openPage (t: Test, context: BrowserContext, name: string, logs?: RegExp): Promise<Page> {
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  // tsx marks the names of functions by a helper, which functions that run in the page must find there.
  await page.addInitScript('globalThis.__name = (named) => named')
  page.on('pageerror', (err) => { t.fail(`${name}: ${err.stack ?? err.message}`) })
  page.on('dialog', (dialog) => { t.fail(`${name}: a script ran: ${dialog.message()}`) })
  // Of what the network does, the page itself says what matters.
  page.on('console', (message) => { if (message.type() === 'error' && !/Failed to load resource|WebSocket connection to/.test(message.text()) && logs?.test(message.text()) !== true) t.fail(`${name}: ${message.text()}`) })
  return page
}

/** Comes into the club through the form. */
export async function comeIn (t: Test, browser: Browser, url: string, { name, userId, clubId = 1, admin = false, options, context: shared, withoutSockets = false }: Coming): Promise<Person> {
  const context = shared ?? await browser.newContext({ viewport: DESKTOP, locale: 'en-GB', ...options })
  if (withoutSockets) await context.addInitScript(BLOCKED)
  const page = await openPage(t, context, name)
  await page.goto(url)
  await page.locator('#login details').evaluate((details: HTMLDetailsElement) => { details.open = true })
  await page.fill('[name=name]', name)
  await page.fill('[name=userId]', String(userId))
  await page.fill('[name=clubId]', String(clubId))
  if (admin) await page.check('[name=admin]')
  await page.click('#login button')
  await page.waitForSelector('#light.on, #light.polling')
  return { name, context, page }
}

/** The messages of the conversation that is open, oldest first. */
export const texts = async ({ page }: Person): Promise<string[]> => await page.locator('#messages .text').allTextContents()

export async function says ({ page }: Person, text: string): Promise<void> {
  await page.fill('#text', text)
  await page.press('#text', 'Enter')
}

/** A group or a person in the list. */
export const entry = ({ page }: Person, name: string): Locator =>
  page.locator('#nav li button', { has: page.locator('.name', { hasText: new RegExp(`^${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`) }) })

/** Opens a group, or the talk with a person; on a phone, from the list. */
export async function opens (person: Person, name: string): Promise<void> {
  if (await person.page.isVisible('#back')) await person.page.click('#back')
  await entry(person, name).click()
}

/** How somebody stands in a person's list: online, away, busy or offline. */
export async function sees (person: Person, name: string, status: string): Promise<void> {
  await entry(person, name).locator(`.dot.${status}`).waitFor()
}

/** Texts whose contrast with what is behind them is less than WCAG's 4.5. Runs in the page. */
export function faintTexts (): string[] {
  const rgb = (color: string): number[] => (color.match(/[\d.]+/g) ?? []).map(Number)
  const luminance = (color: number[]): number => {
    const [r = 0, g = 0, b = 0] = color.map((part) => part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element: Element | null): number[] => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor)
      if ((color[3] ?? 1) === 1) return color
    }
    return [255, 255, 255]
  }
  const faint = new Set<string>()
  for (const element of Array.from(document.querySelectorAll('body *'))) {
    const hasText = Array.from(element.childNodes).some((node) => node.nodeType === Node.TEXT_NODE && node.textContent?.trim())
    if (!hasText || element.getClientRects().length === 0) continue
    const [dark = 0, light = 0] = [luminance(rgb(getComputedStyle(element).color)), luminance(behind(element))].sort((x, y) => x - y)
    const contrast = (light + 0.05) / (dark + 0.05)
    if (contrast < 4.5) faint.add(`${element.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`)
  }
  return [...faint]
}

/** Nothing is wider than the screen. Runs in the page. */
export const fits = (): boolean => document.documentElement.scrollWidth <= innerWidth

/** Whether an element is on the screen as a whole. Runs in the page. */
export function isVisibleIn (id: string): boolean {
  const { top = -1, bottom = 0, left = 0, right = 0, width = 0 } = document.getElementById(id)?.getBoundingClientRect() ?? {}
  return width > 0 && top >= 0 && bottom <= innerHeight && left >= 0 && right <= innerWidth
}

/** What axe-core finds wrong with the page as it is now. */
export async function accessibility (page: Page): Promise<string[]> {
  await page.evaluate(axe.source)
  return await page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run(document)
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).slice(0, 3).join(' | ')}`)
  })
}
