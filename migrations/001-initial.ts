import { sql, type ColumnDataType, type CreateTableBuilder, type Kysely, type RawBuilder } from 'kysely'

/**
 * The tables of events, connections, typing and presence, and the floors of purged channels. Recovery reads the index by
 * (tenant, channel, id).
 *
 * Ids are unique within their tenant only: a global UNIQUE on connection_id would let one tenant see and overwrite the ids of
 * another. Times are DATETIME(3), which no session's time zone shifts.
 *
 * MySQL commits each statement by itself, so a migration that was interrupted starts again with some of it done, and two
 * nodes may run it at once: every step is taken only where it is missing.
 */

type Type = ColumnDataType | RawBuilder<unknown>

interface Types { id: Type, number: Type, text: Type, time: Type, json: Type, flag: Type }

const types: Record<'mysql' | 'sqlite', Types> = {
  mysql: { id: sql`bigint unsigned`, number: sql`bigint unsigned`, text: sql`varchar(64) character set ascii collate ascii_bin`, time: sql`datetime(3)`, json: 'json', flag: 'boolean' },
  sqlite: { id: 'integer', number: 'integer', text: 'text', time: 'text', json: 'text', flag: 'integer' }
}

/** `ids`: whether tenants and users have integer or string ids. String ids are compared byte by byte: `ann` and `Ann` are two users. */
export async function up (db: Kysely<unknown>, ids: 'integer' | 'string'): Promise<void> {
  // The binary collation keeps `group.A` and `group.a` apart: they are two channels, with two audiences.
  const dialect = sql.id('x').compile(db).sql.startsWith('`') ? 'mysql' : 'sqlite'
  const t = types[dialect]
  const owner = ids === 'string' ? t.text : t.number
  const has = async (table: string, index?: string): Promise<boolean> => {
    const query = dialect === 'sqlite'
      ? sql`select 1 from sqlite_master where tbl_name = ${table} and name = ${index ?? table}`
      : index === undefined
        ? sql`select 1 from information_schema.tables where table_schema = database() and table_name = ${table}`
        : sql`select 1 from information_schema.statistics where table_schema = database() and table_name = ${table} and index_name = ${index}`
    return (await query.execute(db)).rows.length > 0
  }
  type Columns = (table: CreateTableBuilder<string, string>) => CreateTableBuilder<string, string>
  const table = async (name: string, columns: Columns): Promise<void> => {
    if (await has(name)) return
    const builder = columns(db.schema.createTable(name).ifNotExists())
    await (dialect === 'mysql' ? builder.modifyEnd(sql`engine = innodb default charset = utf8mb4 collate = utf8mb4_bin`) : builder).execute()
  }
  const withId = async (name: string, columns: Columns): Promise<void> => {
    await table(name, (builder) => columns(builder
      .addColumn('id', t.id, (c) => c.primaryKey().autoIncrement().notNull())
      .addColumn('tenant_id', owner, (c) => c.notNull())
      .addColumn('user_id', owner, (c) => c.notNull())))
  }
  const index = async (on: string, columns: string[], unique = false): Promise<void> => {
    const name = `${on}_${columns.join('_')}`.slice(0, 64)
    if (await has(on, name)) return
    const builder = db.schema.createIndex(name).on(on).columns(columns)
    await (unique ? builder.unique() : builder).execute().catch((err: Error & { code?: string }) => {
      // Another node was faster.
      if (err.code !== 'ER_DUP_KEYNAME') throw err
    })
  }

  await withId('websocket_events', (builder) => builder
    .addColumn('event_type', 'varchar(50)', (c) => c.notNull())
    .addColumn('channel', 'varchar(255)', (c) => c.notNull())
    .addColumn('payload', t.json, (c) => c.notNull())
    .addColumn('status', 'varchar(20)', (c) => c.notNull().defaultTo('pending'))
    .addColumn('retry_count', 'integer', (c) => c.notNull().defaultTo(0))
    .addColumn('error_message', 'text')
    .addColumn('created_at', t.time, (c) => c.notNull())
    .addColumn('updated_at', t.time, (c) => c.notNull())
    .addColumn('durable', t.flag, (c) => c.notNull().defaultTo(1))
    .addColumn('dedupe_id', 'varchar(100)')
    .addColumn('origin', 'varchar(40)', (c) => c.notNull())
    .addColumn('due_at', t.time)
    .addColumn('handed_at', t.time))
  await index('websocket_events', ['tenant_id', 'user_id'])
  await index('websocket_events', ['event_type', 'channel'])
  await index('websocket_events', ['status', 'created_at'])
  await index('websocket_events', ['tenant_id', 'channel', 'durable', 'id'])
  await index('websocket_events', ['tenant_id', 'channel', 'status'])
  await index('websocket_events', ['tenant_id', 'status'])
  await index('websocket_events', ['due_at'])
  await index('websocket_events', ['tenant_id', 'user_id', 'dedupe_id'], true)

  await withId('websocket_connections', (builder) => builder
    .addColumn('connection_id', 'varchar(255)', (c) => c.notNull())
    .addColumn('session_id', 'varchar(255)')
    .addColumn('browser', 'varchar(50)')
    .addColumn('device_type', 'varchar(50)')
    .addColumn('ip_address', 'varchar(45)')
    .addColumn('subscribed_channels', t.json)
    .addColumn('status', 'varchar(20)', (c) => c.notNull().defaultTo('connected'))
    .addColumn('connected_at', t.time, (c) => c.notNull())
    .addColumn('last_activity_at', t.time, (c) => c.notNull())
    .addColumn('disconnected_at', t.time)
    .addColumn('created_at', t.time, (c) => c.notNull())
    .addColumn('updated_at', t.time, (c) => c.notNull())
    .addColumn('node_id', 'varchar(40)', (c) => c.notNull().defaultTo('')))
  await index('websocket_connections', ['tenant_id', 'connection_id'], true)
  await index('websocket_connections', ['user_id', 'status'])
  await index('websocket_connections', ['status', 'last_activity_at'])

  await withId('websocket_typing_indicators', (builder) => builder
    .addColumn('conversation_id', 'varchar(255)', (c) => c.notNull())
    .addColumn('conversation_type', 'varchar(50)', (c) => c.notNull())
    .addColumn('is_typing', t.flag, (c) => c.notNull().defaultTo(1))
    .addColumn('started_at', t.time, (c) => c.notNull())
    .addColumn('expires_at', t.time, (c) => c.notNull())
    .addColumn('created_at', t.time, (c) => c.notNull())
    .addColumn('updated_at', t.time, (c) => c.notNull()))
  await index('websocket_typing_indicators', ['tenant_id', 'user_id', 'conversation_id'], true)
  await index('websocket_typing_indicators', ['conversation_id', 'expires_at'])

  await withId('websocket_presence', (builder) => builder
    .addColumn('status', 'varchar(20)', (c) => c.notNull().defaultTo('online'))
    .addColumn('device', 'varchar(50)')
    .addColumn('last_message', 'text')
    .addColumn('away_since', t.time)
    .addColumn('last_seen_at', t.time, (c) => c.notNull())
    .addColumn('created_at', t.time, (c) => c.notNull())
    .addColumn('updated_at', t.time, (c) => c.notNull()))
  await index('websocket_presence', ['tenant_id', 'user_id'], true)

  await table('websocket_channel_floors', (builder) => builder
    .addColumn('tenant_id', owner, (c) => c.notNull())
    .addColumn('channel', 'varchar(255)', (c) => c.notNull())
    .addColumn('purged_id', t.number, (c) => c.notNull())
    .addPrimaryKeyConstraint('websocket_channel_floors_pk', ['tenant_id', 'channel']))
}

export async function down (db: Kysely<unknown>): Promise<void> {
  for (const name of ['websocket_channel_floors', 'websocket_presence', 'websocket_typing_indicators',
    'websocket_connections', 'websocket_events']) {
    await db.schema.dropTable(name).ifExists().execute()
  }
}
