import { Kysely, MysqlDialect, type Generated } from 'kysely'
import { createPool } from 'mysql2'

/** The product's own tables; `number` is what systems that know no UUID call an account. */
export interface Tables {
  desk_accounts: { id: string, number: Generated<number>, name: string, company: number }
  desk_orders: { id: Generated<number>, account_id: string, item: string, placed_at: Date }
}
export type DeskDatabase = Kysely<Tables>

/** As the product opens it: its driver's defaults, its own pool. */
export const openDeskDatabase = (url: string): DeskDatabase =>
  new Kysely<Tables>({ dialect: new MysqlDialect({ pool: createPool({ uri: url, connectionLimit: 5 }) }) })

export async function createTables (db: DeskDatabase): Promise<void> {
  await db.schema.createTable('desk_accounts').ifNotExists()
    .addColumn('id', 'char(36)', (column) => column.primaryKey())
    .addColumn('number', 'integer', (column) => column.notNull().unique().autoIncrement())
    .addColumn('name', 'varchar(100)', (column) => column.notNull())
    .addColumn('company', 'integer', (column) => column.notNull())
    .execute()
  await db.schema.createTable('desk_orders').ifNotExists()
    .addColumn('id', 'integer', (column) => column.primaryKey().autoIncrement())
    .addColumn('account_id', 'char(36)', (column) => column.notNull())
    .addColumn('item', 'varchar(100)', (column) => column.notNull())
    .addColumn('placed_at', 'datetime', (column) => column.notNull())
    .execute()
}
