import { sql, type ColumnDataType, type Kysely, type RawBuilder } from 'kysely'

/**
 * Conversations. Messages carry their conversation; the index contains the sender, so that counting unread messages reads the
 * index alone. `retention_days`: null: the host's option, 0: never purged. `waiting_at`: when `waiting` was emitted because the
 * recipient is away. Columns with a default of null are added without copying the table.
 *
 * Messages from before are filled in later, in small steps (lib/event-log/backfill.ts): `conversations_from` in websocket_meta
 * is the newest id at the time of the migration, `conversations_left` what remains to be done.
 */
const EVENTS = 'websocket_events'
const MARKS = 'websocket_conversations'
const DELETED = 'websocket_deleted_messages'
const INDEX = `${EVENTS}_tenant_id_conversation_id`
const BY_AGE = `${DELETED}_retention_days_created_at`
const OF_CONVERSATION = `${MARKS}_tenant_id_conversation`

type Type = ColumnDataType | RawBuilder<unknown>

const isMysqlOf = (db: Kysely<unknown>): boolean => sql.id('x').compile(db).sql.startsWith('`')

/** `ids`: whether tenants and users have integer or string ids; string ids are compared byte by byte, as in 001-initial.ts. */
export async function up (db: Kysely<unknown>, ids: 'integer' | 'string'): Promise<void> {
  const isMysql = isMysqlOf(db)
  const ascii = (length: number): Type => isMysql ? sql`varchar(${sql.lit(length)}) character set ascii collate ascii_bin` : 'text'
  const number: Type = isMysql ? sql`bigint unsigned` : 'integer'
  const owner = ids === 'string' ? ascii(64) : number
  const time: Type = isMysql ? sql`datetime(3)` : 'text'
  const json: Type = isMysql ? 'json' : 'text'
  const add = async (name: string, type: Type): Promise<void> => {
    if (await hasColumn(db, name)) return
    await db.schema.alterTable(EVENTS).addColumn(name, type).execute().catch(unless('ER_DUP_FIELDNAME'))
  }
  await add('conversation', ascii(255))
  await add('retention_days', isMysql ? sql`smallint unsigned` : 'integer')
  await add('waiting_at', time)
  if (!await hasIndex(db, EVENTS, INDEX)) {
    await db.schema.createIndex(INDEX).on(EVENTS).columns(['tenant_id', 'conversation', 'id', 'user_id']).execute().catch(unless('ER_DUP_KEYNAME'))
  }
  const finish = async (table: { execute (): Promise<void>, modifyEnd (end: RawBuilder<unknown>): { execute (): Promise<void> } }, name: string): Promise<void> => {
    if (await hasTable(db, name)) return
    await (isMysql ? table.modifyEnd(sql`engine = innodb default charset = utf8mb4 collate = utf8mb4_bin`) : table).execute()
  }
  await finish(db.schema.createTable(MARKS).ifNotExists()
    .addColumn('tenant_id', owner, (column) => column.notNull())
    .addColumn('user_id', owner, (column) => column.notNull())
    .addColumn('conversation', ascii(255), (column) => column.notNull())
    .addColumn('read_up_to', number, (column) => column.notNull().defaultTo(0))
    .addColumn('is_listed', isMysql ? 'boolean' : 'integer', (column) => column.notNull().defaultTo(1))
    .addColumn('created_at', time, (column) => column.notNull())
    .addColumn('updated_at', time, (column) => column.notNull())
    .addPrimaryKeyConstraint(`${MARKS}_pk`, ['tenant_id', 'user_id', 'conversation']), MARKS)
  if (!await hasIndex(db, MARKS, OF_CONVERSATION)) {
    await db.schema.createIndex(OF_CONVERSATION).on(MARKS).columns(['tenant_id', 'conversation', 'user_id']).execute().catch(unless('ER_DUP_KEYNAME'))
  }
  await finish(db.schema.createTable(DELETED).ifNotExists()
    .addColumn('tenant_id', owner, (column) => column.notNull())
    .addColumn('conversation', ascii(255), (column) => column.notNull())
    .addColumn('id', number, (column) => column.notNull())
    .addColumn('user_id', owner, (column) => column.notNull())
    .addColumn('event_type', 'varchar(50)', (column) => column.notNull())
    .addColumn('payload', json, (column) => column.notNull())
    .addColumn('retention_days', isMysql ? sql`smallint unsigned` : 'integer')
    .addColumn('created_at', time, (column) => column.notNull())
    .addPrimaryKeyConstraint(`${DELETED}_pk`, ['tenant_id', 'conversation', 'id']), DELETED)
  if (!await hasIndex(db, DELETED, BY_AGE)) {
    await db.schema.createIndex(BY_AGE).on(DELETED).columns(['retention_days', 'created_at']).execute().catch(unless('ER_DUP_KEYNAME'))
  }
  for (const name of ['conversations_from', 'conversations_left']) {
    if (await found(sql`select 1 from websocket_meta where name = ${name}`, db)) continue
    // Another node may be faster: its position is kept.
    await sql`insert ${sql.raw(isMysql ? 'ignore' : 'or ignore')} into websocket_meta (name, value)
      select ${name}, coalesce(max(id), 0) from websocket_events`.execute(db)
  }
}

export async function down (db: Kysely<unknown>): Promise<void> {
  await sql`delete from websocket_meta where name in ('conversations_from', 'conversations_left')`.execute(db)
  await db.schema.dropTable(DELETED).ifExists().execute()
  await db.schema.dropTable(MARKS).ifExists().execute()
  if (await hasIndex(db, EVENTS, INDEX)) {
    const builder = db.schema.dropIndex(INDEX)
    await (isMysqlOf(db) ? builder.on(EVENTS) : builder).execute().catch(unless('ER_CANT_DROP_FIELD_OR_KEY'))
  }
  for (const name of ['waiting_at', 'retention_days', 'conversation']) {
    if (await hasColumn(db, name)) await db.schema.alterTable(EVENTS).dropColumn(name).execute().catch(unless('ER_CANT_DROP_FIELD_OR_KEY'))
  }
}

const unless = (code: string) => (err: Error & { code?: string }): void => { if (err.code !== code) throw err }

const found = async (query: RawBuilder<unknown>, db: Kysely<unknown>): Promise<boolean> => (await query.execute(db)).rows.length > 0

const hasColumn = async (db: Kysely<unknown>, name: string): Promise<boolean> => await found(isMysqlOf(db)
  ? sql`select 1 from information_schema.columns where table_schema = database() and table_name = ${EVENTS} and column_name = ${name}`
  : sql`select 1 from pragma_table_info(${EVENTS}) where name = ${name}`, db)

const hasIndex = async (db: Kysely<unknown>, table: string, name: string): Promise<boolean> => await found(isMysqlOf(db)
  ? sql`select 1 from information_schema.statistics where table_schema = database() and table_name = ${table} and index_name = ${name}`
  : sql`select 1 from pragma_index_list(${table}) where name = ${name}`, db)

const hasTable = async (db: Kysely<unknown>, name: string): Promise<boolean> => await found(isMysqlOf(db)
  ? sql`select 1 from information_schema.tables where table_schema = database() and table_name = ${name}`
  : sql`select 1 from sqlite_master where type = 'table' and name = ${name}`, db)
