/// <reference lib="dom" />
import { join } from 'node:path'
import t from 'tap'
import type { Page } from 'playwright-core'
import { WebSocket } from 'ws'
import { WebSocketClient } from '../../client/src/index.js'
import { ROOT } from '../examples.js'
import { temporaryFolder } from '../exit-hooks.js'
import { until } from '../cluster/until.js'
import type * as Probe from './hooks-probe.js'
import type { Hooks, Session } from './hooks-probe.js'
import { connected, say, shows, startReactApp } from './react-app.js'

const app = await startReactApp(t)
const { door, tokenOf } = app

t.test('A chat room of React components', async (t) => {
  const ann = await app.enter(t, 1, 'Ann')
  const ben = await app.enter(t, 2, 'Ben')

  await t.test('opens one socket per page in StrictMode', async (t) => {
    t.match(await app.get(1, '/stats'), { data: { total_connections: 2 } })
  })

  await t.test('shows who is there, with their presence, and who is typing', async (t) => {
    for (const page of [ann, ben]) await page.waitForSelector('#members:has-text("2 here"):has-text("Ann (online)"):has-text("Ben (online)")')
    await ben.type('[placeholder=Message]', 'Hi')
    await ann.waitForSelector('#typing:text-is("Ben typing…")')
    t.equal(await ben.textContent('#typing'), '')
    await say(ben, 'Hi')
    await ann.waitForSelector('#typing:text-is("")', { state: 'attached' })
  })

  await t.test('shows every message once, and own ones at once', async () => {
    await say(ann, 'Hello')
    for (const page of [ann, ben]) await shows(page, 'Hi', 'Hello')
  })

  await t.test('two tabs of one user show the same', async (t) => {
    const tab = await app.enter(t, 1, 'Ann', ann.context())
    await shows(tab, 'Hi', 'Hello')
    await say(tab, 'From the other tab')
    for (const page of [ann, ben, tab]) await shows(page, 'Hi', 'Hello', 'From the other tab')
    await tab.close()
    await ann.waitForSelector('#members:has-text("2 here")')
  })

  await t.test('messages that are written offline are sent when the network is back, and missed ones arrive', async () => {
    await ann.route(/\/(api|login)/, async (route) => { await route.abort('internetdisconnected') })
    door.cut()
    await connected(ben)
    await ann.waitForSelector('#state:has-text("connecting")')
    await say(ann, 'Written offline')
    await ann.waitForSelector('li.sending:has-text("Written offline")')
    await say(ben, 'Meanwhile')
    await ben.waitForSelector('li.sent:has-text("Meanwhile")')
    await ann.unroute(/\/(api|login)/)
    await ann.evaluate(() => { dispatchEvent(new Event('online')) })
    await connected(ann)
    await ann.waitForSelector('li.sent:has-text("Written offline")')
    for (const page of [ann, ben]) await shows(page, 'Hi', 'Hello', 'From the other tab', 'Meanwhile', 'Written offline')
  })

  await t.test('a node that crashes and starts again loses nothing, and everybody is there again', async () => {
    await app.host.kill()
    await ann.waitForSelector('#state:has-text("connecting")')
    await say(ann, 'During the restart')
    await app.restart({ MESSAGES_PER_MINUTE: '0', FRAMES_PER_SECOND: '0' })
    for (const page of [ann, ben]) {
      // The next attempt may be far off by now; a look at the page brings it forward.
      await page.evaluate(() => { dispatchEvent(new Event('pageshow')) })
      await connected(page)
      await shows(page, 'Hi', 'Hello', 'From the other tab', 'Meanwhile', 'Written offline', 'During the restart')
      await page.waitForSelector('#members:has-text("2 here"):has-text("Ann (online)"):has-text("Ben (online)")')
    }
    await say(ben, 'After it')
    await ann.waitForSelector('li:has-text("After it")')
  })

  await t.test('an unread message in another room is counted, and read there', async () => {
    await ann.click('button:has-text("group.coffee")')
    await say(ann, 'Coffee?')
    await ann.waitForSelector('li.sent:has-text("Coffee?")')
    await ann.click('button:has-text("group.lobby")')
    await shows(ann, 'Hi', 'Hello', 'From the other tab', 'Meanwhile', 'Written offline', 'During the restart', 'After it')
    await ben.click('button:has-text("group.coffee")')
    await say(ben, 'Yes')
    await ann.waitForSelector('button:has-text("group.coffee") b:text-is("1")')
    await ann.click('button:has-text("group.coffee")')
    await shows(ann, 'Coffee?', 'Yes')
    await ann.click('button:has-text("group.lobby")')
    await ann.waitForSelector('button:has-text("group.coffee") b:text-is("")', { state: 'attached' })
  })

  await t.test('1000 messages are rendered without making the page wait', async (t) => {
    await ben.close()
    const writers = Array.from({ length: 10 }, (_, i) => new WebSocketClient({ baseUrl: `${app.host.url}/api/websocket`, WebSocket, token: async () => await tokenOf(11 + i) }))
    t.teardown(async () => { for (const writer of writers) await writer.disconnect() })
    await ann.evaluate(() => {
      const counts = { renders: 0 }
      Object.assign(window, { counts })
      new MutationObserver(() => { counts.renders++ }).observe(document.querySelector('ol')!, { childList: true })
    })
    const started = performance.now()
    await Promise.all(writers.flatMap((writer, i) => Array.from({ length: 100 }, async (_, j) =>
      await writer.send('message:group', { channel: 'group.lobby', message: `message ${i} ${j}`, conversationId: 'lobby' }))))
    await ann.waitForFunction(() => document.querySelectorAll('li').length === 1007)
    const seconds = (performance.now() - started) / 1000
    const renders = await ann.evaluate(() => (window as unknown as { counts: { renders: number } }).counts.renders)
    t.comment(`${renders} renders in ${seconds} s`)
    t.ok(renders <= seconds * 20 + 2, 'at most one every 50 ms')
    const delays = await ann.evaluate(async () => {
      const input = document.querySelector<HTMLInputElement>('[placeholder=Message]')!
      const setValue = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value')!.set!
      const delays: number[] = []
      for (let i = 1; i <= 20; i++) {
        const from = performance.now()
        setValue.call(input, 'x'.repeat(i))
        input.dispatchEvent(new Event('input', { bubbles: true }))
        await new Promise((resolve) => { requestAnimationFrame(() => { setTimeout(resolve) }) })
        delays.push(performance.now() - from)
      }
      return delays.sort((a, b) => a - b)
    })
    t.comment(`a keystroke is shown after ${delays[10]} ms`)
    t.ok(delays[10]! < 200, `${delays[10]} ms`)
  })
})

declare const hooks: Hooks
declare const session: Session

t.test('The hooks of a direct conversation', async (t) => {
  const open = async (userId: number, peer: number): Promise<Page> => {
    const page = await app.open(t, `user ${userId}`)
    await begin(page, userId, peer)
    return page
  }
  const begin = async (page: Page, userId: number, peer: number): Promise<void> => {
    await page.evaluate(async ([file, token, peer]) => {
      const { start } = await import(file) as typeof Probe
      start(token, { with: peer })
    }, [`/@fs${join(ROOT, 'test/browser/hooks-probe.ts')}`, await tokenOf(userId), peer] as const)
    await page.waitForFunction(() => hooks.status.transport === 'websocket' && hooks.conversation.status === 'ready')
  }
  const [ann, ben] = [await open(1, 2), await open(2, 1)]
  const both = [ann, ben]
  const texts = async (page: Page): Promise<string[]> => await page.evaluate(() => hooks.conversation.messages.map(({ message, isMine, isDeleted, editedAt }) =>
    `${isMine ? 'me: ' : ''}${isDeleted ? 'deleted' : message}${editedAt ? ' (edited)' : ''}`))

  await t.test('messages are unread until they are marked, and the sender sees the mark', async (t) => {
    for (const text of ['one', 'two', 'three']) await ann.evaluate((text) => { hooks.conversation.send(text) }, text)
    await ben.waitForFunction(() => hooks.conversation.messages.length === 3 && hooks.unread.conversations.find((one) => one.with === 1)?.unread === 3)
    t.strictSame([await texts(ann), await texts(ben)], [['me: one', 'me: two', 'me: three'], ['one', 'two', 'three']])
    await ben.evaluate(() => { hooks.conversation.markRead() })
    await ben.waitForFunction(() => hooks.unread.conversations.find((one) => one.with === 1)?.unread === 0)
    await ann.waitForFunction(() => hooks.conversation.reads.get(2) === hooks.conversation.messages[2]?.id)
  })
  await t.test('edits and deletes show on both sides', async (t) => {
    await ann.evaluate(async () => {
      const [one, two] = hooks.conversation.messages
      await hooks.conversation.edit(one!.id!, 'ONE')
      await hooks.conversation.remove(two!.id!)
    })
    for (const page of both) await page.waitForFunction(() => hooks.conversation.messages[0]?.editedAt && hooks.conversation.messages[1]?.isDeleted)
    t.strictSame([await texts(ann), await texts(ben)], [['me: ONE (edited)', 'me: deleted', 'me: three'], ['ONE (edited)', 'deleted', 'three']])
  })
  await t.test('typing and presence of the other are shown', async () => {
    await ben.evaluate(() => { hooks.typing.record() })
    await ann.waitForFunction(() => hooks.typing.users.join() === '2' && (hooks.presence as { status: string }).status === 'online')
    await ben.evaluate(() => { hooks.typing.record(false) })
    await ann.waitForFunction(() => hooks.typing.users.length === 0)
  })
  await t.test('history comes page by page', async (t) => {
    await ben.reload()
    await begin(ben, 2, 1)
    t.strictSame(await texts(ben), ['deleted', 'three'])
    t.ok(await ben.evaluate(() => hooks.conversation.hasMore))
    await ben.evaluate(async () => { await hooks.conversation.loadMore() })
    await ben.waitForFunction(() => hooks.conversation.messages.length === 3 && !hooks.conversation.hasMore)
    t.strictSame(await texts(ben), ['ONE (edited)', 'deleted', 'three'])
  })
  await t.test('read marks are known after a reload, too', async (t) => {
    await ann.reload()
    await begin(ann, 1, 2)
    const marksOf = async (page: Page): Promise<unknown[]> => await page.evaluate(() => [hooks.conversation.messages.at(-1)?.id, hooks.conversation.readUpTo, ...hooks.conversation.reads.values()])
    const marks = await marksOf(ann)
    t.ok(marks[0])
    t.strictSame([marks, await marksOf(ben)], [1, 2].map(() => Array(3).fill(marks[0])), 'both have read and written all')
  })
  await t.test('a refused message fails, and a refused channel has an error', async (t) => {
    await ann.evaluate(() => { hooks.conversation.send('x'.repeat(5001)) })
    await ann.waitForFunction(() => hooks.conversation.messages.at(-1)?.status === 'failed')
    t.equal(await ann.evaluate(() => hooks.conversation.messages.at(-1)?.error?.code), 'RT_INVALID_DATA')
    await ann.evaluate(() => { hooks.conversation.discard(hooks.conversation.messages.at(-1)!) })
    await ann.waitForFunction(() => hooks.conversation.messages.every(({ status }) => status !== 'failed'))
    t.strictSame(await ann.evaluate(() => [hooks.refused.status, hooks.refused.error?.code]), ['failed', 'RT_FORBIDDEN'])
  })
  await t.test('a message whose ack never came fails, is sent again, and is stored once', async (t) => {
    const stored = async (): Promise<number> => ((await app.get(2, '/history?with=1')).data as Array<{ data: { message: string } }>).filter(({ data }) => data.message === 'Once').length
    door.mute = true
    await ann.evaluate(() => { hooks.conversation.send('Once') })
    await until('it is stored', 10_000, async () => await stored() === 1)
    await ann.evaluate(() => { void hooks.client.disconnect() })
    await ann.waitForFunction(() => hooks.conversation.messages.at(-1)?.status === 'failed')
    door.mute = false
    await ann.evaluate(() => { hooks.client.connect() })
    await ann.waitForFunction(() => hooks.status.state === 'connected')
    await ann.evaluate(() => { hooks.conversation.retry(hooks.conversation.messages.at(-1)!) })
    await ann.waitForFunction(() => hooks.conversation.messages.every(({ status }) => status === 'sent'))
    t.strictSame((await texts(ann)).filter((text) => text === 'me: Once'), ['me: Once'])
    t.equal(await stored(), 1)
  })
  await t.test('another user sees nothing of the one before', async (t) => {
    await ann.evaluate(() => { hooks.conversation.send('x'.repeat(5001)) })
    await ann.waitForFunction(() => hooks.conversation.messages.at(-1)?.status === 'failed')
    await ann.evaluate((token) => { session.token = token }, await tokenOf(3))
    door.cut()
    await ann.waitForFunction(() => hooks.status.userId === 3 && hooks.status.state === 'connected' && hooks.conversation.status === 'ready')
    t.strictSame(await ann.evaluate(() => {
      const { conversation: { messages, reads, readUpTo }, unread: { conversations, total }, typing: { users } } = hooks
      return { messages, reads: reads.size, readUpTo, conversations, total, users }
    }), { messages: [], reads: 0, readUpTo: 0, conversations: [], total: 0, users: [] })
    await ann.evaluate(() => { hooks.conversation.send('From another') })
    await ben.waitForFunction(() => hooks.unread.conversations.some((one) => one.with === 3 && one.unread === 1))
    t.notOk((await texts(ben)).includes('From another'), 'and writes in a conversation of their own')
  })
  await t.test('after a gap a channel, direct messages and the list are read again', async (t) => {
    const eve = await app.enter(t, 5, 'Eve')
    await say(eve, 'Before')
    await eve.waitForSelector('li.sent:has-text("Before")')
    await app.host.kill()
    // Another database: nothing of the log is there.
    await app.restart({ DATABASE_URL: `sqlite:${join(temporaryFolder('react'), 'another.db')}` })
    for (const page of [eve, ben]) await page.evaluate(() => { dispatchEvent(new Event('pageshow')) })
    await connected(eve)
    await shows(eve)
    await ben.waitForFunction(() => hooks.status.state === 'connected' && hooks.conversation.messages.length === 0 && hooks.unread.conversations.length === 0)
    await say(eve, 'After')
    await shows(eve, 'After')
    t.equal(await eve.locator('#more').count(), 0)
  })
})
