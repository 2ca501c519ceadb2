import { randomBytes } from 'node:crypto'
import { sql, type Kysely } from 'kysely'
import { sleep } from '../async/timers.js'
import { OptionError } from '../errors.js'
import type { Database } from './dialect.js'
import { literal } from './literal.js'
import type { OpenDatabase } from './open.js'

/** Properties of the server that the log needs before its first statement. */
export interface DatabaseFacts {
  /** The largest statement that the server accepts, in bytes. */
  maxPacket: number
  /** Whether the ids of one insert are consecutive. They are not if several servers accept writes. */
  consecutiveIds: boolean
}

/** Requirements for a session of the host, and the reasons. */
const NEEDED: Record<string, { good: (value: string) => boolean, problem: string }> = {
  autocommit: { good: isOn, problem: 'autocommit is off, so that nothing fastify-realtime writes would be committed: turn it on' },
  completion_type: { good: (value) => value === 'NO_CHAIN' || value === '0', problem: 'completion_type is not NO_CHAIN: a commit would begin the next transaction' },
  sql_mode: {
    good: (value) => /STRICT_(TRANS|ALL)_TABLES/.test(value) && !/NO_BACKSLASH_ESCAPES|EMPTY_STRING_IS_NULL/.test(value),
    problem: 'sql_mode must have STRICT_TRANS_TABLES, or values are cut without an error, and neither NO_BACKSLASH_ESCAPES nor EMPTY_STRING_IS_NULL'
  },
  sql_safe_updates: { good: (value) => !isOn(value), problem: 'sql_safe_updates is on, and rejects the deletes of fastify-realtime: turn it off' },
  sql_select_limit: { good: (value) => Number(value) >= 1e9, problem: 'sql_select_limit truncates results: raise it' },
  // MySQL and MariaDB have different names for these.
  tx_isolation: { good: isCommitted, problem: 'the isolation level is READ UNCOMMITTED: what is rolled back would be delivered' },
  transaction_isolation: { good: isCommitted, problem: 'the isolation level is READ UNCOMMITTED: what is rolled back would be delivered' },
  tx_read_only: { good: (value) => !isOn(value), problem: 'the session is read-only' },
  transaction_read_only: { good: (value) => !isOn(value), problem: 'the session is read-only' }
}

/** Time to wait for a second connection of the host's pool, in milliseconds. */
const SECOND_CONNECTION = 1000
/** Values that a wrong character set, wrong escapes, or truncated numbers would change. */
const TEXT = `'"\`\\ \\n ? :a %_ é 日本語 🙂 {"a":"\\u0001","b":null} `
const TIME = '2026-02-28 23:59:59.123'

/**
 * Reads the properties of the server. A host's own connections are also tested: a row is written, read through another
 * connection, changed and deleted. Throws an {@link OptionError} that names the problem.
 */
export async function examine (opened: OpenDatabase): Promise<DatabaseFacts> {
  if (opened.host !== null) assertOwnTables(opened.host)
  if (opened.dialect === 'sqlite') {
    if (opened.host !== null) await tryOut(opened)
    return { maxPacket: Infinity, consecutiveIds: true }
  }
  const settings = await settingsOf(opened.db)
  if (opened.host !== null) {
    for (const [name, { good, problem }] of Object.entries(NEEDED)) {
      const value = settings.get(name)
      if (value !== undefined && !good(value)) throw wrong(`${problem} (${name} = ${value})`)
    }
    await tryOut(opened)
  }
  return {
    maxPacket: Number(settings.get('max_allowed_packet') ?? Infinity),
    consecutiveIds: settings.get('auto_increment_increment') === '1' && !isOn(settings.get('wsrep_on') ?? 'OFF')
  }
}

async function settingsOf (db: Database): Promise<Map<string, string>> {
  const names = [...Object.keys(NEEDED), 'max_allowed_packet', 'auto_increment_increment', 'wsrep_on']
  const { rows } = await sql<Record<string, string>>`show session variables where variable_name in (${sql.join(names)})`.execute(db)
  return new Map(rows.map((row) => [String(row.Variable_name), String(row.Value)]))
}

/** Rejects a plugin that renames tables (`withSchema`, a prefix): it does not apply to the statements of fastify-realtime. */
function assertOwnTables (host: Kysely<unknown>): void {
  const from = (db: Kysely<unknown>): string =>
    (db as unknown as Database).selectFrom('websocket_meta').select('name').compile().sql.toLowerCase().split(/\bfrom\b/)[1] ?? ''
  if (from(host) !== from(host.withoutPlugins())) {
    throw wrong(`a plugin of this Kysely instance renames tables (${from(host).trim()}), which does not apply to fastify-realtime: ` +
      'pass an instance without it, connected to the database that is meant')
  }
}

async function tryOut ({ db, dialect }: OpenDatabase): Promise<void> {
  const name = `check:${randomBytes(9).toString('base64url')}`
  const readBack = async () => (await sql<Record<string, unknown>>`
    select name, value, ${sql.lit(Number.MAX_SAFE_INTEGER)} as id, cast(${TIME} as char) as time from websocket_meta where name = ${name}`.execute(db)).rows[0]
  let found: ReturnType<typeof readBack> | undefined
  try {
    await db.connection().execute(async (connection) => {
      // In the same way as the log: on MySQL its values are literals.
      await sql`insert into websocket_meta (name, value) values (${name}, ${dialect === 'mysql' ? sql.raw(literal(TEXT)) : TEXT})`.execute(connection)
      if (dialect === 'sqlite') return
      // Nothing to roll back if every statement is committed.
      await sql`rollback`.execute(connection)
      found = readBack()
      // This connection is held, so that the read uses another one; a pool of one has none.
      await Promise.race([found.catch(() => {}), sleep(SECOND_CONNECTION)])
    })
    const row = await (found ?? readBack())
    if (row === undefined) {
      throw wrong('a row that was written is not found through another connection: each statement must be committed by itself, ' +
        'and reads must go to the server that takes the writes')
    }
    const values = [row.name, row.value, Number(row.id), row.time]
    const expected = [name, TEXT, Number.MAX_SAFE_INTEGER, TIME]
    const differs = ['name', 'text', 'number', 'time'].find((_, i) => values[i] !== expected[i])
    if (differs !== undefined) {
      throw wrong(`a ${differs} comes back changed: connect with the character set utf8mb4, and without options that change the shape of rows or types`)
    }
    await assertChanges(db, name)
  } catch (err) {
    await db.deleteFrom('websocket_meta').where('name', '=', name).execute().catch(() => {})
    if (err instanceof OptionError) throw err
    throw new OptionError('database', `cannot be used: a row could not be written, read, changed and deleted: ${err instanceof Error ? err.message : String(err)}`, err)
  }
}

async function assertChanges (db: Database, name: string): Promise<void> {
  const { numUpdatedRows } = await db.updateTable('websocket_meta').set({ value: 'changed' }).where('name', '=', name).executeTakeFirst()
  const { numDeletedRows } = await db.deleteFrom('websocket_meta').where('name', '=', name).executeTakeFirst()
  if (Number(numUpdatedRows) !== 1 || Number(numDeletedRows) !== 1) throw wrong('it does not tell how many rows a statement changed')
}

const wrong = (problem: string): OptionError => new OptionError('database', `cannot be used: ${problem}`)

function isOn (value: string): boolean {
  return value === 'ON' || value === '1'
}

function isCommitted (value: string): boolean {
  return value !== 'READ-UNCOMMITTED'
}
