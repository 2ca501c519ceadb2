import { join } from 'node:path'
import { sql } from 'kysely'
import t from 'tap'
import { migrationNames } from '../lib/database/migrator.js'
import { migrate, openDatabase, type OpenDatabase } from '../plugins/index.js'
import { dataFolder } from './exit-hooks.js'
import { createDatabase } from './servers.js'

/** The guide's tables: columns, and indexes as the columns they begin with; `!` where the columns are unique. */
const guide: Record<string, { columns: string[], indexes: string[] }> = {
  websocket_events: {
    columns: ['id', 'tenant_id', 'user_id', 'event_type', 'channel', 'payload', 'status', 'retry_count', 'error_message', 'created_at', 'updated_at'],
    indexes: ['tenant_id,user_id', 'event_type,channel', 'status,created_at', 'tenant_id,channel,durable,id']
  },
  websocket_connections: {
    columns: ['id', 'tenant_id', 'user_id', 'connection_id', 'session_id', 'browser', 'device_type', 'ip_address', 'subscribed_channels',
      'status', 'connected_at', 'last_activity_at', 'disconnected_at', 'created_at', 'updated_at'],
    indexes: ['!tenant_id,connection_id', 'user_id,status']
  },
  websocket_typing_indicators: {
    columns: ['id', 'tenant_id', 'user_id', 'conversation_id', 'conversation_type', 'is_typing', 'started_at', 'expires_at', 'created_at', 'updated_at'],
    indexes: ['!tenant_id,user_id,conversation_id', 'conversation_id,expires_at']
  },
  websocket_presence: {
    columns: ['id', 'tenant_id', 'user_id', 'status', 'device', 'last_message', 'away_since', 'last_seen_at', 'created_at', 'updated_at'],
    indexes: ['!tenant_id,user_id']
  }
}

const databases: Array<[name: string, create: () => Promise<{ url: string, drop: () => Promise<void> }>]> = [
  ['SQLite', async () => ({ url: `sqlite:${join(dataFolder('migrations'), 'm.db')}`, drop: async () => {} })],
  ['MariaDB', async () => await createDatabase(process.env.DATABASE_URL ?? '')]
]

async function tables ({ db }: OpenDatabase): Promise<Map<string, string[]>> {
  const all = await db.introspection.getTables()
  return new Map(all.filter(({ name }) => name.startsWith('websocket_') && !name.includes('migrations'))
    .map(({ name, columns }) => [name, columns.map((column) => column.name)]))
}

async function indexes ({ db, dialect }: OpenDatabase, table: string): Promise<string[]> {
  const query = dialect === 'sqlite'
    ? sql<{ name: string, alone: number, field: string }>`
        select list.name, list."unique" as alone, info.name as field
        from pragma_index_list(${table}) as list, pragma_index_info(list.name) as info order by list.name, info.seqno`
    : sql<{ name: string, alone: number, field: string }>`
        select index_name as name, 1 - non_unique as alone, column_name as field from information_schema.statistics
        where table_schema = database() and table_name = ${table} order by index_name, seq_in_index`
  const found = new Map<string, string>()
  for (const { name, alone, field } of (await query.execute(db)).rows) {
    const before = found.get(name)
    found.set(name, before === undefined ? `${Number(alone) === 1 ? '!' : ''}${field}` : `${before},${field}`)
  }
  return [...found.values()]
}

for (const [name, create] of databases) {
  t.test(`On ${name}`, async (t) => {
    const { url, drop } = await create()
    const database = openDatabase(url)
    t.teardown(async () => {
      await database.close()
      await drop()
    })
    const { db } = database

    await t.test('migrations go up, do nothing when they are done, go down and up again', async (t) => {
      for (let round = 0; round < 2; round++) {
        t.strictSame(await migrate(db), migrationNames)
        const found = await tables(database)
        for (const [table, { columns }] of Object.entries(guide)) {
          t.strictSame(columns.filter((column) => found.get(table)?.includes(column) !== true), [], `columns that ${table} lacks`)
        }
        t.strictSame(await migrate(db), [])
        if (round === 1) break
        for (const name of migrationNames.toReversed()) t.strictSame(await migrate(db, 'down'), [name])
        t.strictSame([...(await tables(database)).keys()], [])
        t.strictSame(await migrate(db, 'down'), [])
      }
    })

    await t.test('the guide’s indexes are there, and one for recovery', async (t) => {
      for (const [table, expected] of Object.entries(guide)) {
        const found = await indexes(database, table)
        for (const index of expected.indexes) t.ok(found.includes(index), `${table} (${index}) among ${found.join(' · ')}`)
      }
    })

    await t.test('each reverted migration leaves the tables of the one before it, and an interrupted one continues', async (t) => {
      const before = (await indexes(database, 'websocket_events')).toSorted()
      const backToFirst = async (): Promise<void> => { for (const _ of migrationNames.slice(1)) await migrate(db, 'down') }
      await backToFirst()
      const first = (await indexes(database, 'websocket_events')).toSorted()
      t.ok(first.includes('tenant_id,channel,status') && first.includes('tenant_id,status'))
      // MySQL commits each statement of a migration by itself.
      await db.schema.createIndex('websocket_events_tenant_id_status_channel').on('websocket_events').columns(['tenant_id', 'status', 'channel']).execute()
      await migrate(db)
      t.strictSame((await indexes(database, 'websocket_events')).toSorted(), before)
      await backToFirst()
      t.strictSame((await indexes(database, 'websocket_events')).toSorted(), first)
      await migrate(db)
    })

    await t.test('defaults are the guide’s', async (t) => {
      const now = '2026-01-01 00:00:00.000'
      const times = sql`${now}, ${now}`
      await sql`insert into websocket_events (tenant_id, user_id, event_type, channel, payload, origin, created_at, updated_at)
        values (1, 1, 'news', 'group.x', '{}', 'test', ${times})`.execute(db)
      await sql`insert into websocket_connections (tenant_id, user_id, connection_id, connected_at, last_activity_at, created_at, updated_at)
        values (1, 1, 'tab', ${times}, ${times})`.execute(db)
      await sql`insert into websocket_typing_indicators (tenant_id, user_id, conversation_id, conversation_type, started_at, expires_at, created_at, updated_at)
        values (1, 1, 'c', 'direct', ${times}, ${times})`.execute(db)
      await sql`insert into websocket_presence (tenant_id, user_id, last_seen_at, created_at, updated_at) values (1, 1, ${now}, ${times})`.execute(db)
      t.match(await db.selectFrom('websocket_events').selectAll().execute(), [{ id: 1, status: 'pending', retry_count: 0, error_message: null }])
      t.match(await db.selectFrom('websocket_connections').selectAll().execute(), [{ id: 1, status: 'connected', disconnected_at: null }])
      t.match(await db.selectFrom('websocket_typing_indicators').selectAll().execute(), [{ id: 1, is_typing: 1 }])
      t.match(await db.selectFrom('websocket_presence').selectAll().execute(), [{ id: 1, status: 'online', away_since: null }])
    })

    await t.test('names that differ in case are two, and those of two tenants do not meet', async (t) => {
      const now = '2026-01-01 00:00:00.000'
      for (const [tenant, id] of [[3, 'Tab'], [3, 'tab'], [4, 'tab']]) {
        await sql`insert into websocket_connections (tenant_id, user_id, connection_id, connected_at, last_activity_at, created_at, updated_at)
          values (${tenant}, 1, ${id}, ${now}, ${now}, ${now}, ${now})`.execute(db)
      }
      const found = await db.selectFrom('websocket_connections').select('connection_id').where('tenant_id', '=', 3).where('connection_id', '=', 'tab').execute()
      t.strictSame(found.map(({ connection_id: id }) => id), ['tab'])
    })

    await t.test('the largest ids are read as they were written', async (t) => {
      const id = Number.MAX_SAFE_INTEGER
      await db.insertInto('websocket_presence').values({
        tenant_id: id, user_id: id, status: 'busy', device: null, last_message: '🙂', away_since: null,
        last_seen_at: '2026-01-01 00:00:00.123', created_at: '2026-01-01 00:00:00.123', updated_at: '2026-01-01 00:00:00.123'
      }).execute()
      const [row] = await db.selectFrom('websocket_presence').selectAll().where('tenant_id', '=', id).execute()
      t.same([Number(row?.user_id), row?.last_message, row?.last_seen_at], [id, '🙂', '2026-01-01 00:00:00.123'])
    })

    await t.test('two simultaneous migrations have the effect of one', async (t) => {
      // SQLite is for one process; on MariaDB another node does the same.
      const other = name === 'SQLite' ? database : openDatabase(url)
      t.teardown(async () => { if (other !== database) await other.close() })
      for (const _ of migrationNames) await migrate(db, 'down')
      const done = await Promise.all([migrate(db), migrate(other.db), migrate(db)])
      t.strictSame(done.flat(), migrationNames)
      t.equal((await tables(other)).size, 10)
    })
  })
}
