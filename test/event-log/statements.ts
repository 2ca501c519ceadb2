import type { Test } from 'tap'
import type { EventLog } from '../../lib/event-log/index.js'
import { turn } from '../suites.js'
import { group, type OpenNode } from './world.js'

/** Puts something before and after each statement that inserts; `messages` are those of its rows. */
function around (log: EventLog, each: (insert: () => Promise<number[]>, messages: string[]) => Promise<number[]>): void {
  const insert = log.store.insert.bind(log.store)
  log.store.insert = async (rows) => await each(
    async () => await insert(rows), rows.map(({ payload }) => (JSON.parse(payload) as { message: string }).message))
}

/** The log's statements follow one another, and what each brought is told meanwhile. */
export function statements (t: Test, open: OpenNode): void {
  t.test('the next statement starts before the last one is published, and is published after it', async (t) => {
    const { log, listen, settle } = await open(t)
    const reader = await listen('group.1')
    const seen: string[] = []
    const send = async (message: string): Promise<void> => {
      await log.append(group(message))
      seen.push(`told ${message}`)
    }
    const sent: Array<Promise<void>> = []
    around(log, async (insert, messages) => {
      seen.push(`begin ${messages.join('+')}`)
      if (messages[0] === '1') sent.push(send('2'), send('3'))
      if (messages[0] === '2') sent.push(send('4'))
      const ids = await insert()
      seen.push(`end ${messages.join('+')}`)
      return ids
    })
    await send('1')
    while (sent.length < 3) await turn()
    await Promise.all(sent)
    await settle()
    t.strictSame(reader.messages(), ['1', '2', '3', '4'])
    t.strictSame(seen.filter((step) => !step.startsWith('told')), ['begin 1', 'end 1', 'begin 2+3', 'end 2+3', 'begin 4', 'end 4'])
    t.strictSame(seen.filter((step) => step.startsWith('told')), ['told 1', 'told 2', 'told 3', 'told 4'])
    t.ok(seen.indexOf('begin 2+3') < seen.indexOf('told 1'))
  })

  t.test('committed events are published even if the next statement finds the database away', async (t) => {
    const { log, listen, settle } = await open(t, { timeout: 300 })
    const reader = await listen('group.1')
    const outcomes: string[] = []
    const send = async (message: string): Promise<void> => {
      outcomes.push(await log.append(group(message)).then(() => `${message} stored`, () => `${message} refused`))
    }
    const second: Array<Promise<void>> = []
    around(log, async (insert) => {
      if (second.length > 0) throw new Error('gone')
      second.push(send('2'))
      return await insert()
    })
    await send('1')
    await Promise.all(second)
    await settle()
    t.strictSame(outcomes, ['1 stored', '2 refused'])
    t.strictSame(reader.messages(), ['1'])
    t.notOk(log.healthy)
  })

  t.test('events of a statement that finished too late for the sender are published to everyone else', async (t) => {
    const { log, listen, settle, rows } = await open(t, { timeout: 300 })
    const reader = await listen('group.1')
    let answer = (): void => {}
    const late = new Promise<void>((resolve) => { answer = resolve })
    around(log, async (insert) => {
      const ids = await insert()
      await late
      return ids
    })
    const send = async () => await log.append(group('late', { dedupeId: 'mine' }))
    await t.rejects(send(), { code: 'RT_STORAGE_UNAVAILABLE', outcome: 'unknown' })
    answer()
    await settle()
    t.strictSame(reader.messages(), ['late'])
    while (!log.healthy) await turn()
    const [row] = await rows()
    t.equal((await send()).messageId, Number(row?.id), 'and the sender’s own key makes the next try the same event')
    await settle()
    t.strictSame(reader.messages(), ['late'], 'told once')
    t.match(await rows(), [{ status: 'delivered' }])
  })

  t.test('exactly the published events are marked', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b', db: open.database(t) })
    const send = async ({ log }: typeof a, count: number): Promise<void> => {
      await Promise.all(Array.from({ length: count }, async (_, i) => await log.append(group(String(i)))))
    }
    // Between the rows of one node are some of another, which cannot say that they were handed on.
    await send(a, 120)
    a.backplane.healthy = false
    b.backplane.healthy = false
    await send(b, 70)
    a.backplane.healthy = true
    await send(a, 1300)
    await a.settle()
    await b.settle()
    const rows = await a.rows()
    t.equal(rows.length, 1490)
    for (const { origin, status, handed_at: at } of rows) {
      if ((status === 'delivered') !== (origin === 'node-a') || (at !== null) !== (origin === 'node-a')) t.fail(`${origin}: ${status}`)
    }
  })
}
