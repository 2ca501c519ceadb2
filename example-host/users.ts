import { setTimeout } from 'node:timers/promises'
import type { Id, IdKind, OpenDatabase } from '../plugins/index.js'

/** People that a search finds at most. */
const FOUND = 20

type Users = { demo_users: { club_id: Id, user_id: Id, name: string } }

/** The host's directory of users: a table, because names given to one node are read on others. */
export async function openUsers (database: OpenDatabase, ids: IdKind) {
  const db = database.db.withTables<Users>()
  // Strings are compared byte by byte: ann and Ann are two users, regardless of the server's collation.
  const type = ids === 'integer' ? 'bigint' : database.dialect === 'mysql' ? 'varbinary(64)' : 'text'
  const read = (id: Id): Id => (ids === 'integer' ? Number(id) : String(id)) as Id
  await db.schema.createTable('demo_users').ifNotExists()
    .addColumn('club_id', type, (column) => column.notNull())
    .addColumn('user_id', type, (column) => column.notNull())
    .addColumn('name', 'varchar(100)', (column) => column.notNull())
    .addPrimaryKeyConstraint('demo_users_pk', ['club_id', 'user_id'])
    .execute()
  return {
    /** Limited in time, because a login must succeed while the database is away, even without storing the name. */
    async remember (clubId: Id, userId: Id, name: string): Promise<void> {
      const written = db.replaceInto('demo_users').values({ club_id: clubId, user_id: userId, name }).execute()
      await Promise.race([written.catch(() => {}), setTimeout(500)])
    },
    async names (clubId: Id, userIds: Id[]): Promise<Map<Id, { name: string }>> {
      const rows = await db.selectFrom('demo_users').select(['user_id', 'name'])
        .where('club_id', '=', clubId).where('user_id', 'in', userIds).execute()
      return new Map(rows.map(({ user_id: userId, name }) => [read(userId), { name }]))
    },
    /** Parses an id; null if it is not valid. */
    parse: (text: string): Id | null => ids === 'string' ? text as unknown as Id : /^[1-9]\d{0,15}$/.test(text) ? read(text as unknown as Id) : null,
    /** Users of a club with a word in their name that begins with this text. */
    async search (clubId: Id, text: string): Promise<Array<{ userId: Id, name: string }>> {
      // Without wildcards, which databases escape in different ways.
      const begin = text.trim().toLowerCase().replace(/[%_\\]/g, '')
      if (begin === '') return []
      const rows = await db.selectFrom('demo_users').select(['user_id', 'name']).where('club_id', '=', clubId)
        .where((eb) => eb.or([`${begin}%`, `% ${begin}%`].map((pattern) => eb(eb.fn<string>('lower', ['name']), 'like', pattern))))
        .orderBy('name').limit(FOUND).execute()
      return rows.map(({ user_id: userId, name }) => ({ userId: read(userId), name }))
    }
  }
}
