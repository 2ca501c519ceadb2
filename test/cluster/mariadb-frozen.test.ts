import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test as Tap } from 'tap'
import { check } from './check.js'
import { Client, rest, type Refused, type Who } from './client.js'
import { clusterFor, memoryOf } from './cluster.js'
import { type Load, startLoad } from './load.js'
import { until, within } from './until.js'

const who = (userId: number): Who => ({ userId, clubId: 2 })
const direct = (message: string) => ({ recipientId: 2, message, conversationId: 'x' })
const refusal = async (sending: Promise<unknown>): Promise<Partial<Refused>> => await sending.then(() => ({}), (err: unknown) => err as Refused)

const FROZEN = 8000

t.test('MariaDB frozen under load', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  const [a, b] = nodes
  const [one, watcher] = await Promise.all([Client.connect(a, who(1)), Client.connect(b, who(2))])
  await watcher.request('subscribe', { channel: 'conversation.talk' })

  /** Load in a tenant of its own, and MariaDB frozen as soon as it flows. */
  const freeze = async (t: Tap, clubId: number): Promise<{ load: Load, frozenAt: number }> => {
    const load = await startLoad(t, nodes, { retrying: 0.8, clubId })
    await until('messages flow', 5000, () => load.acked.length > 300)
    cluster.mariadb.pause()
    return { load, frozenAt: Date.now() }
  }
  const heals = async (t: Tap, load: Load): Promise<void> => {
    const thawedAt = Date.now()
    const message = `healed ${load.clubId}`
    await until('sends are accepted', 5000, async () => await one.request('message:direct', direct(message)))
    t.comment(`accepted again after ${Date.now() - thawedAt} ms`)
    await watcher.next('message:direct', 2000, (data) => data.message === message)
    const acked = load.acked.length
    await until('messages flow again', 5000, () => load.acked.length > acked + 300)
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load)
    t.comment({ ...figures, slowest: Math.max(...load.refusals.map(({ after }) => after)) })
    t.strictSame(problems, [])
    t.ok(load.refusals.length > 20, `${load.refusals.length} refused`)
    t.ok(load.refusals.every(({ code, after, retryAfter = 0 }) => code === 'RT_STORAGE_UNAVAILABLE' && after < 5000 && retryAfter > 0))
    t.strictSame(load.closeCodes, [], 'no socket was closed')
  }

  await t.test('for 8 s', async (t) => {
    const memoryBefore = memoryOf(a)
    const { load, frozenAt } = await freeze(t, 1)
    const thaw = sleep(FROZEN).then(() => { cluster.mariadb.resume() })

    await t.test('durable sends are refused within 5 s, with RT_STORAGE_UNAVAILABLE and when to try again', async (t) => {
      const { code, retryAfter = 0 } = await refusal(one.request('message:direct', direct('now')))
      t.equal(code, 'RT_STORAGE_UNAVAILABLE')
      t.ok(retryAfter > 0)
      t.ok(Date.now() - frozenAt < 5000, `after ${Date.now() - frozenAt} ms`)
      const byRest = await within(500, 'at once when it is known', refusal(rest(a, who(1), '/messages/direct', { recipient_id: 2, message: 'now', conversation_id: 'x' })))
      t.equal(byRest.code, 'RT_STORAGE_UNAVAILABLE')
      t.ok((byRest.retryAfter ?? 0) > 0)
    })

    await t.test('typing and presence continue meanwhile, for old and new sockets', async (t) => {
      const began = Date.now()
      const received = async (event: string, userId: number): Promise<unknown> =>
        await until(`${event} of ${userId}`, 1000, () => watcher.all(event).some(({ data, at }) => data.userId === userId && at >= began))
      await one.request('user:typing', { conversationId: 'talk', isTyping: true })
      await one.request('user:presence', { status: 'away' })
      await Promise.all([received('user:typing', 1), received('user:presence', 1)])
      const late = await Client.connect(a, who(3))
      await late.request('user:typing', { conversationId: 'talk', isTyping: true })
      await Promise.all([received('user:online', 3), received('user:typing', 3)])
      t.ok(Date.now() - frozenAt < FROZEN, 'all of it while it is frozen')
    })

    for (const path of ['/presence/1', '/online-users', '/typing/talk']) {
      await t.test(`${path} is answered meanwhile`, async (t) => {
        await t.resolves(within(1200, path, rest(b, who(2), path)))
      })
    }

    await t.test('memory stays bounded however much is sent meanwhile', async (t) => {
      let refused = 0
      while (Date.now() - frozenAt < FROZEN - 200) {
        await Promise.all(Array.from({ length: 200 }, async () => {
          await one.request('message:direct', direct('x'.repeat(5000))).catch(() => { refused++ })
        }))
      }
      const grown = Math.round(memoryOf(a) - memoryBefore)
      t.comment(`${refused} refused; ${Math.round(memoryBefore)} MiB grew by ${grown} MiB`)
      t.ok(refused > 100, `${refused} refused`)
      t.ok(grown < 150, `grew by ${grown} MiB`)
    })

    await thaw
    await t.test('it heals by itself: nothing acked is missing, nothing is stored twice', async (t) => { await heals(t, load) })
  })

  // Long enough that sends are refused, and short enough that the outbox's sweeper does not come first.
  await t.test('for 3.5 s: refused events that are stored after all arrive in their order', async (t) => {
    const { load, frozenAt } = await freeze(t, 3)
    await sleep(3500 - (Date.now() - frozenAt))
    cluster.mariadb.resume()
    await heals(t, load)
  })
})
