import { sql, type ColumnDataType, type Kysely, type RawBuilder } from 'kysely'

/** Users who are invisible to others, one row each, until they set another status. */
const TABLE = 'websocket_invisible'

/** `ids`: whether tenants and users have integer or string ids; string ids are compared byte by byte, as in 001-initial.ts. */
export async function up (db: Kysely<unknown>, ids: 'integer' | 'string'): Promise<void> {
  const isMysql = sql.id('x').compile(db).sql.startsWith('`')
  const number: ColumnDataType | RawBuilder<unknown> = isMysql ? sql`bigint unsigned` : 'integer'
  const text: ColumnDataType | RawBuilder<unknown> = isMysql ? sql`varchar(64) character set ascii collate ascii_bin` : 'text'
  const owner = ids === 'string' ? text : number
  const table = db.schema.createTable(TABLE)
    .addColumn('id', number, (column) => column.primaryKey().autoIncrement().notNull())
    .addColumn('tenant_id', owner, (column) => column.notNull())
    .addColumn('user_id', owner, (column) => column.notNull())
    .addColumn('since', number, (column) => column.notNull())
    .addUniqueConstraint('websocket_invisible_tenant_id_user_id', ['tenant_id', 'user_id'])
  const found = await (isMysql
    ? sql`select 1 from information_schema.tables where table_schema = database() and table_name = ${TABLE}`
    : sql`select 1 from sqlite_master where name = ${TABLE}`).execute(db)
  if (found.rows.length === 0) await (isMysql ? table.modifyEnd(sql`engine = innodb default charset = utf8mb4 collate = utf8mb4_bin`) : table).execute()
}

export async function down (db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable(TABLE).ifExists().execute()
}
