import Libsql from 'libsql'
import { CamelCasePlugin, DeduplicateJoinsPlugin, Kysely, MysqlDialect, ParseJSONResultsPlugin, SqliteDialect, type KyselyPlugin } from 'kysely'
import Fastify from 'fastify'
import { createPool, type PoolOptions } from 'mysql2'
import { createConnection, type Connection } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { realtime } from '../plugins/index.js'
import { allowAll, buildHost, connect, rest, rowsOf, user } from './helper.js'
import { createDatabase, startMariadb } from './servers.js'

/** A host's own pool, as its developers wrote it. */
function ownPool (t: Test, url: string, options: PoolOptions = {}, session?: string): Kysely<unknown> {
  const pool = createPool({ uri: url, connectionLimit: 4, ...options })
  if (session !== undefined) pool.on('connection', (connection) => { connection.query(session) })
  const db = new Kysely<unknown>({ dialect: new MysqlDialect({ pool }) })
  t.teardown(async () => { await db.destroy() })
  return db
}

function ownSqlite (t: Test): Kysely<unknown> {
  const db = new Kysely<unknown>({ dialect: new SqliteDialect({ database: new Libsql(':memory:') }) })
  t.teardown(async () => { await db.destroy() })
  return db
}

async function register (t: Test, database: unknown): Promise<void> {
  const app = Fastify({ pluginTimeout: 60_000 })
  t.teardown(async () => { await app.close() })
  await app.register(realtime, { database, authenticate: () => null })
}

/** Sends, receives, resumes, and reads what was written behind. */
async function works (t: Test, database: unknown): Promise<void> {
  const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, database } })
  const message = `it's "quoted" \\ 🙂 日本語 {"a":1}`
  const [ann, ben] = [await connect(host, user(1)), await connect(host, user(2))]
  await ben.request('subscribe', { channel: 'group.x' })
  const { messageId } = await ann.request('message:group', { channel: 'group.x', message, conversationId: 'c' })
  t.match(await ben.next('message:group'), { messageId, message })
  await ann.request('message:direct', { recipientId: 3, message, conversationId: 'c' })
  const late = await connect(host, user(3))
  t.match(await late.next('message:direct'), { message }, 'what waited is read back')
  t.match((await rest(host, user(1), 'GET', '/events?channel=group.x&since=0')).body, { data: [{ data: { messageId, message } }] })
  t.same(await host.app.realtime.health(), { ok: true, database: true, redis: true })
  await host.app.close()
}

const renaming: KyselyPlugin = {
  transformQuery: ({ node }) => node,
  transformResult: async ({ result }) => ({ ...result, rows: result.rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name.toUpperCase(), value]))) })
}
const plugins: Record<string, KyselyPlugin> = {
  CamelCasePlugin: new CamelCasePlugin(),
  'nested objects in CamelCasePlugin': new CamelCasePlugin({ maintainNestedObjectKeys: false, upperCase: true }),
  ParseJSONResultsPlugin: new ParseJSONResultsPlugin(),
  DeduplicateJoinsPlugin: new DeduplicateJoinsPlugin(),
  'a plugin of its own': renaming
}

t.jobs = 2
for (const name of ['SQLite', 'MariaDB']) {
  void t.test(`A host’s own Kysely instance on ${name}`, { buffered: true }, async (t) => {
    const open = async (t: Test): Promise<Kysely<unknown>> => {
      if (name === 'SQLite') return ownSqlite(t)
      const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
      t.teardown(drop)
      return ownPool(t, url)
    }

    await t.test('works as it is', async (t) => { await works(t, await open(t)) })
    for (const [plugin, instance] of Object.entries(plugins)) {
      await t.test(`works with ${plugin}`, async (t) => { await works(t, (await open(t)).withPlugin(instance)) })
    }
    await t.test('is refused where a plugin puts tables elsewhere', async (t) => {
      await t.rejects(register(t, (await open(t)).withSchema('elsewhere')), { code: 'RT_OPTION_INVALID', message: /"database".*renames tables.*elsewhere/ })
    })
  })
}

void t.test('On a server with unusual settings', { buffered: true }, async (t) => {
  const server = await startMariadb()
  const admin = await createConnection(server.url)
  t.teardown(async () => {
    await admin.end()
    await server.kill()
  })
  // What init_connect says holds for everyone but administrators.
  await admin.query("create user app identified by 'app'")
  await admin.query('grant all on `test\\_%`.* to app')
  await admin.query('grant all on test.* to app')
  const as = (url: string): string => Object.assign(new URL(url), { username: 'app', password: 'app' }).href
  const database = async (): Promise<string> => {
    const { url } = await createDatabase(server.url)
    return as(url)
  }

  await t.test('connections from a URL have the required session settings, whatever the server’s defaults are', async (t) => {
    const url = await database()
    const before = await globals(admin)
    t.teardown(async () => { await before.restore() })
    for (const setting of ['autocommit = 0', "completion_type = 'CHAIN'", "sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'", "tx_isolation = 'READ-UNCOMMITTED'",
      'tx_read_only = 1', 'sql_select_limit = 1', "init_connect = 'set autocommit = 0, sql_safe_updates = 1, names latin1'"]) await admin.query(`set global ${setting}`)
    await works(t, url)
    const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, database: url } })
    const ann = await connect(host, user(1))
    const acked: unknown[] = []
    for (let i = 0; i < 20; i++) {
      const { messageId } = await ann.request('message:group', { channel: 'group.y', message: 'a \\" b', conversationId: 'c' })
      const [rows] = await admin.query(`select id from \`${new URL(url).pathname.slice(1)}\`.websocket_events where id = ?`, [messageId])
      await admin.query('commit')
      if ((rows as unknown[]).length === 1) acked.push(messageId)
    }
    t.equal(acked.length, 20, 'every acked message is seen by another connection')
  })

  await t.test('where servers share the ids out, each event gets the id of its row', async (t) => {
    const url = await database()
    await admin.query('set global auto_increment_increment = 3')
    t.teardown(async () => { await admin.query('set global auto_increment_increment = 1') })
    const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, database: url } })
    const receipts = await Promise.all(Array.from({ length: 5 }, async (_, i) =>
      await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { i } })))
    t.strictSame(receipts.map(({ messageId }) => messageId), (await rowsOf(host, 'websocket_events')).map(({ id }) => Number(id)))
  })

  const cases: Array<[what: string, session: string | undefined, options: PoolOptions, refusal: RegExp]> = [
    ['autocommit is off', 'set autocommit = 0', {}, /autocommit is off/],
    ['each commit begins a transaction', "set completion_type = 'CHAIN'", {}, /completion_type/],
    ['backslashes are plain characters', "set sql_mode = 'STRICT_TRANS_TABLES,NO_BACKSLASH_ESCAPES'", {}, /NO_BACKSLASH_ESCAPES/],
    ['values are cut without an error', "set sql_mode = ''", {}, /STRICT_TRANS_TABLES/],
    ['deletes without a key are refused', 'set sql_safe_updates = 1', {}, /sql_safe_updates/],
    ['answers are cut off', 'set sql_select_limit = 10', {}, /sql_select_limit/],
    ['uncommitted rows are read', 'set session transaction isolation level read uncommitted', {}, /READ UNCOMMITTED/],
    ['the session only reads', 'set session transaction read only', {}, /read-only/],
    ['the character set is latin1', undefined, { charset: 'latin1' }, /utf8mb4|could not be written/],
    ['rows are arrays', undefined, { rowsAsArray: true }, /shape of rows|could not be written|cannot be used/],
    ['values are left as bytes', undefined, { typeCast: false }, /types|cannot be used/]
  ]
  for (const [what, session, options, refusal] of cases) {
    await t.test(`a pool of the host’s where ${what} is refused, with the reason`, async (t) => {
      const url = await database()
      // The tables are there: it is about what the pool does with them.
      await register(t, url)
      const err = await register(t, ownPool(t, url, options, session)).then(() => null, (err: Error & { code: string }) => err)
      t.match(err, { code: 'RT_OPTION_INVALID', message: refusal })
      t.comment(err?.message)
    })
  }

  for (const [what, options] of Object.entries<PoolOptions>({
    'one connection': { connectionLimit: 1 }, 'numbers as texts': { supportBigNumbers: true, bigNumberStrings: true }, 'another time zone': { timezone: '+05:00', dateStrings: false }
  })) {
    await t.test(`a pool of the host’s with ${what} works`, async (t) => { await works(t, ownPool(t, await database(), options)) })
  }
})

async function globals (admin: Connection): Promise<{ restore (): Promise<void> }> {
  const names = ['autocommit', 'completion_type', 'sql_mode', 'tx_isolation', 'tx_read_only', 'sql_select_limit', 'init_connect']
  const [rows] = await admin.query('show global variables where variable_name in (?)', [names])
  return {
    restore: async () => {
      for (const { Variable_name: name, Value: value } of rows as Array<{ Variable_name: string, Value: string }>) {
        await admin.query(`set global ${name} = ${/^\d+$|^(ON|OFF)$/.test(value) ? value : `'${value}'`}`)
      }
    }
  }
}
