import { sql, type ColumnDataType, type Kysely, type RawBuilder } from 'kysely'

/** The host's decisions about live connections (bans, revocations, kicks …), one row each: read by every node. */
const TABLE = 'websocket_access'

/** `ids`: whether tenants and users have integer or string ids; string ids are compared byte by byte, as in 001-initial.ts. */
export async function up (db: Kysely<unknown>, ids: 'integer' | 'string'): Promise<void> {
  const isMysql = sql.id('x').compile(db).sql.startsWith('`')
  const number: ColumnDataType | RawBuilder<unknown> = isMysql ? sql`bigint unsigned` : 'integer'
  const text: ColumnDataType | RawBuilder<unknown> = isMysql ? sql`varchar(64) character set ascii collate ascii_bin` : 'text'
  const owner = ids === 'string' ? text : number
  const time: ColumnDataType | RawBuilder<unknown> = isMysql ? sql`datetime(3)` : 'text'
  const table = db.schema.createTable(TABLE)
    .addColumn('id', number, (column) => column.primaryKey().autoIncrement().notNull())
    .addColumn('entry_key', 'varchar(40)', (column) => column.notNull().unique())
    .addColumn('kind', 'varchar(20)', (column) => column.notNull())
    .addColumn('tenant_id', owner, (column) => column.notNull())
    .addColumn('user_id', owner)
    .addColumn('channel', 'varchar(255)')
    .addColumn('token_id', 'varchar(255)')
    .addColumn('issued_before', time)
    .addColumn('until_at', time)
    .addColumn('reason', 'varchar(255)')
    .addColumn('created_at', time, (column) => column.notNull())
  const found = await (isMysql
    ? sql`select 1 from information_schema.tables where table_schema = database() and table_name = ${TABLE}`
    : sql`select 1 from sqlite_master where name = ${TABLE}`).execute(db)
  if (found.rows.length === 0) await (isMysql ? table.modifyEnd(sql`engine = innodb default charset = utf8mb4 collate = utf8mb4_bin`) : table).execute()
  const index = `${TABLE}_tenant_id_user_id`
  const exists = isMysql
    ? sql`select 1 from information_schema.statistics where table_schema = database() and table_name = ${TABLE} and index_name = ${index}`
    : sql`select 1 from pragma_index_list(${TABLE}) where name = ${index}`
  if ((await exists.execute(db)).rows.length === 0) await db.schema.createIndex(index).on(TABLE).columns(['tenant_id', 'user_id']).execute()
}

export async function down (db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable(TABLE).ifExists().execute()
}
