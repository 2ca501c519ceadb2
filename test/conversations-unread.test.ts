import { sql } from 'kysely'
import t from 'tap'
import type { Database } from '../lib/database/dialect.js'
import { migrate } from '../lib/database/migrator.js'
import { Ids, type IdKind } from '../lib/ids.js'
import { ConversationStore, type Entry } from '../plugins/conversations/store.js'
import { openDatabase } from '../plugins/index.js'
import { createDatabase } from './servers.js'

const at = '2026-01-01 00:00:00.000'
const ME = { integer: 1, string: 'auth0|me' }
const OTHER = { integer: 2, string: 'auth0|you' }

/** How many messages a conversation has, which of them are the user's own, and after which one the mark is; counted from the newest, which is 1. */
interface Shape { size: number, own: number[], mark: number | null }

const shapes: Shape[] = [0, 1, 2, 99, 101, 160].flatMap((size) => [[], [1], [2], [100], [101], [7, 120]]
  .filter((own) => own.every((n) => n <= size))
  .flatMap((own) => [null, 1, 2, 100, 101, 150].filter((mark) => mark === null || mark <= size).map((mark) => ({ size, own, mark }))))

/** What a user sees: messages after the mark and after the own newest one that matters. */
function expected ({ size, own, mark }: Shape): number {
  return Math.min(100, Math.min(size, ...own.map((n) => n - 1), ...mark === null ? [] : [mark - 1]))
}

async function insert (db: Database, kind: IdKind, events: Array<{ user: 'ME' | 'OTHER', conversation: string | null }>): Promise<number[]> {
  const ids: number[] = []
  for (let from = 0; from < events.length; from += 1000) {
    const { rows: [newest] } = await sql<{ id: number | null }>`select max(id) as id from websocket_events`.execute(db)
    const first = Number(newest?.id ?? 0) + 1
    await db.insertInto('websocket_events').values(events.slice(from, from + 1000).map(({ user, conversation }, i) => ({
      id: first + i, tenant_id: kind === 'integer' ? 1 : 'club', user_id: { ME, OTHER }[user][kind], event_type: 'message:group', channel: 'group.x', payload: '{}', status: 'delivered' as const,
      durable: 1, origin: 'test', created_at: at, updated_at: at, handed_at: at, conversation
    })) as never).execute()
    ids.push(...events.slice(from, from + 1000).map((_, i) => first + i))
  }
  return ids
}

t.jobs = 4
for (const kind of ['integer', 'string'] as const) {
  for (const name of ['SQLite', 'MariaDB']) {
    void t.test(`the list counts what others wrote after the mark and after the own newest message, and reads no more than that: ${name}, ${kind} ids`, { buffered: true }, async (t) => {
      const { url, drop } = name === 'MariaDB' ? await createDatabase(process.env.DATABASE_URL ?? '') : { url: 'sqlite::memory:', drop: async () => {} }
      t.teardown(drop)
      const { db, dialect, close } = openDatabase(url)
      t.teardown(close)
      await migrate(db, 'up', { ids: kind })
      const ids = new Ids(kind)
      const tenant = (kind === 'integer' ? 1 : 'club') as never
      const me = ME[kind] as never
      await db.connection().execute(async (one) => {
        const store = new ConversationStore({ db: one, slow: one, dialect, behind: [], ask: async (statement) => await statement() }, ids)
        const names = shapes.map((_, n) => `group.${n}`)
        const events = shapes.flatMap(({ size, own }, n) => Array.from({ length: size }, (_, i) => ({ user: own.includes(size - i) ? 'ME' as const : 'OTHER' as const, conversation: names[n] ?? null })))
        // One with far more messages than are counted.
        const large = Array.from({ length: 2500 }, () => ({ user: 'OTHER' as const, conversation: 'group.large' }))
        const stored = await insert(one, kind, [...events, ...large])
        let end = 0
        await store.mark([
          ...shapes.map(({ size, mark }, n) => {
            end += size
            return { tenantId: tenant, userId: me, conversation: names[n] ?? '', readUpTo: mark === null ? 0 : stored[end - mark] ?? 0 }
          }),
          { tenantId: tenant, userId: me, conversation: 'group.large', readUpTo: 0 }
        ], 0)
        const wanted = new Map([...shapes.map((shape, n) => [names[n], expected(shape)] as const), ['group.large', 100]])

        const pages = async (limit: number): Promise<Entry[]> => {
          const all: Entry[] = []
          for (;;) {
            const page = await store.list(tenant, me, all.at(-1) ?? null, limit)
            all.push(...page)
            if (page.length < limit) return all
          }
        }
        const check = async (limit: number): Promise<void> => {
          const all = await pages(limit)
          t.strictSame(all.map(({ lastId }) => lastId), all.map(({ lastId }) => lastId).toSorted((a, b) => b - a), 'latest activity first')
          const counts: Array<{ unread: number, readUpTo: number }> = []
          for (let n = 0; n < all.length; n += limit) counts.push(...await store.unread(tenant, me, all.slice(n, n + limit)))
          t.strictSame(all.map(({ conversation }, n) => [conversation, counts[n]?.unread]).filter(([conversation, unread]) => wanted.get(conversation as string) !== unread)
            .map(([conversation, unread]) => [shapes[names.indexOf(conversation as string)], unread]), [])
          t.equal(all.length, wanted.size)
          for (const [n, { mark, conversation }] of all.entries()) if ((counts[n]?.readUpTo ?? 0) < mark) t.fail(`the mark of ${conversation} moved back`)
        }
        await check(200)
        // The own messages are not among the user's newest events any more.
        await insert(one, kind, Array.from({ length: 150 }, () => ({ user: 'ME' as const, conversation: null })))
        await check(37)

        if (name === 'SQLite') return
        const reads = async (): Promise<number> => (await sql<{ Value: string }>`show session status like 'Handler_read_%'`.execute(one)).rows.reduce((sum, { Value }) => sum + Number(Value), 0)
        const [page] = [await store.list(tenant, me, null, 1)]
        t.strictSame(page.map(({ conversation }) => conversation), ['group.large'])
        const before = await reads()
        await store.unread(tenant, me, page)
        const counted = await reads() - before
        t.ok(counted < 600, `${counted} rows read for one conversation of 2500 messages`)
        await store.list(tenant, me, null, 1)
        const listed = await reads() - before - counted
        t.ok(listed < shapes.length * 8 + 600, `${listed} rows read for the list of ${wanted.size}`)
      })
    })
  }
}
