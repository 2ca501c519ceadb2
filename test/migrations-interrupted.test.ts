import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { sql } from 'kysely'
import { createConnection } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { migrationNames } from '../lib/database/migrator.js'
import { CLI } from './cli.js'
import { startProxy } from './cluster/proxy.js'
import { cutAfter } from './cut-database.js'
import { dataFolder } from './exit-hooks.js'
import { freshPrefix } from './suites.js'
import { createDatabase } from './servers.js'
import { migrate, openDatabase, realtime, type OpenDatabase, type RealtimeOptions } from '../plugins/index.js'

type Create = (t: Test) => Promise<string>
const databases: Record<'SQLite' | 'MariaDB', Create> = {
  SQLite: async () => `sqlite:${join(dataFolder('migrations'), `${randomUUID()}.db`)}`,
  MariaDB: async (t) => {
    const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
    t.teardown(drop)
    return url
  }
}

function open (t: Test, url: string): OpenDatabase {
  const database = openDatabase(url)
  t.teardown(async () => { await database.close() })
  return database
}

/** Tables, columns and indexes, as text. */
async function shapeOf ({ db, dialect }: OpenDatabase): Promise<string[]> {
  const { rows } = await (dialect === 'sqlite'
    ? sql<{ line: string }>`select name || ' ' || coalesce(sql, '') as line from sqlite_master where name like 'websocket_%' order by name`
    : sql<{ line: string }>`
      select concat('column ', table_name, '.', column_name, ' ', column_type, ' ', is_nullable) as line from information_schema.columns where table_schema = database()
      union all select concat('index ', table_name, '.', index_name, ' ', seq_in_index, ' ', column_name, ' ', non_unique) from information_schema.statistics
      where table_schema = database() order by 1`).execute(db)
  return rows.map(({ line }) => line)
}

async function register (t: Test, options: Partial<RealtimeOptions>): Promise<void> {
  const app: FastifyInstance = Fastify({ pluginTimeout: 60_000 })
  t.teardown(async () => { await app.close() })
  await app.register(realtime, { database: 'sqlite::memory:', authenticate: () => null, ...options })
}

for (const [name, create] of Object.entries(databases)) {
  void t.test(`On ${name}`, async (t) => {
    const whole = open(t, await create(t))
    await migrate(whole.db)
    const expected = await shapeOf(whole)

    await t.test('a migration that is killed at any statement is completed by the next start', async (t) => {
      const url = await create(t)
      let killed = 0
      for (;;) {
        // SQLite takes a migration back: each is killed one statement later than the last. On MySQL each continues where the last was killed.
        const database = openDatabase(url)
        const { db, cut } = name === 'SQLite' ? cutAfter(database, killed) : cutAfter(database, 1, (text) => /^\s*(create|alter|drop|insert|delete|update)/.test(text))
        await migrate(db).catch(() => {})
        // What a process began and did not commit ends with it.
        await sql`rollback`.execute(database.db).catch(() => {})
        await database.close()
        if (!cut()) break
        killed++
      }
      t.comment(`killed ${killed} times`)
      t.ok(killed > 20)
      const after = open(t, url)
      t.strictSame(await migrate(after.db), [])
      t.strictSame(await shapeOf(after), expected)
    })

    await t.test('many nodes that start at once migrate once', async (t) => {
      const url = await create(t)
      const nodes = Array.from({ length: 6 }, () => open(t, url))
      const done = await Promise.all(nodes.map(async ({ db }) => await migrate(db)))
      t.strictSame(done.flat().sort(), migrationNames)
      t.strictSame(await shapeOf(nodes[0] as OpenDatabase), expected)
    })

    await t.test('a database newer than the node is refused with an error that names it', async (t) => {
      const url = await create(t)
      const { db } = open(t, url)
      await migrate(db)
      await sql`insert into websocket_migrations (name, timestamp) values ('999-later', '')`.execute(db)
      const starts: Array<() => Promise<unknown>> = [
        async () => await migrate(db), async () => await migrate(db, 'down'),
        async () => { await register(t, { database: url }) }, async () => { await register(t, { database: url, migrate: false }) }
      ]
      for (const start of starts) {
        await t.rejects(start(), { message: /migrated by a newer version of fastify-realtime \(999-later\)/ })
      }
    })

    await t.test('a node that may not migrate refuses to start while a migration is missing, and names the command', async (t) => {
      const url = await create(t)
      const refused = { code: 'RT_OPTION_INVALID', message: /"database" lacks the migrations 00.*npx fastify-realtime migrate/ }
      await t.rejects(register(t, { database: url, migrate: false }), refused)
      const { db } = open(t, url)
      await migrate(db)
      await migrate(db, 'down')
      await t.rejects(register(t, { database: url, migrate: false }), refused)
      await migrate(db)
      await t.resolves(register(t, { database: url, migrate: false }))
    })

    await t.test('while a node of version 0.1 is running the tables stay as they are', async (t) => {
      const url = await create(t)
      const { db } = open(t, url)
      await migrate(db)
      while (!(await migrate(db, 'down')).includes('003-meta')); // as version 0.1 left them
      const time = (ago: number): string => new Date(Date.now() - ago).toISOString().replace('T', ' ').slice(0, 23)
      const living = { message: /a node of fastify-realtime 0.1 is still running.*stop all nodes/ }

      // With Redis: the lease of the older node, under a key without an identity.
      const keyPrefix = freshPrefix()
      const redis = new Redis(process.env.REDIS_URL ?? '')
      t.teardown(async () => { await redis.quit() })
      await redis.zadd(`${keyPrefix}:0:nodes`, Date.now() + 60_000, randomUUID())
      const onRedis = { database: url, redis: process.env.REDIS_URL, keyPrefix }
      await t.rejects(register(t, onRedis), living)

      // Without: a socket that nobody closed.
      await sql`insert into websocket_connections (tenant_id, user_id, connection_id, connected_at, last_activity_at, created_at, updated_at, node_id)
        values (1, 1, 'tab', ${time(0)}, ${time(0)}, ${time(0)}, ${time(0)}, 'a-node')`.execute(db)
      await t.rejects(migrate(db), living)
      await t.rejects(register(t, { database: url }), living)
      await sql`update websocket_connections set status = 'disconnected'`.execute(db)
      await redis.zadd(`${keyPrefix}:0:nodes`, Date.now() - 1000, (await redis.zrange(`${keyPrefix}:0:nodes`, 0, 0))[0] ?? '')
      await t.resolves(register(t, onRedis))
    })
  })
}

void t.test('On MariaDB', async (t) => {
  const admin = await createConnection(process.env.DATABASE_URL ?? '')
  t.teardown(async () => { await admin.end() })

  await t.test('the lock of a killed process does not keep others from migrating', async (t) => {
    const url = await databases.MariaDB(t)
    const proxy = await startProxy(Number(new URL(url).port))
    t.teardown(async () => { await proxy.close() })
    const through = Object.assign(new URL(url), { port: String(proxy.port) }).href
    // In the middle of its work, and the server is not notified of the end.
    const stalled = new Promise<void>((resolve) => {
      proxy.inspect = (bytes, link) => {
        if (!bytes.includes('create table') && !bytes.includes('create index')) return true
        link.stall()
        resolve()
        return false
      }
    })
    const { DATABASE_URL: _, ...env } = process.env
    const child = execFile(process.execPath, [...CLI, 'migrate'], { env: { ...env, DATABASE_URL: through } })
    const ended = new Promise<void>((resolve) => { child.once('exit', () => { resolve() }) })
    await stalled
    child.kill('SIGKILL')
    await ended
    const began = Date.now()
    t.strictSame(await migrate(open(t, url).db), migrationNames)
    t.ok(Date.now() - began < 30_000, `${Date.now() - began} ms`)
  })

  await t.test('a missing right is named, and when it is granted the migration continues where it stopped', async (t) => {
    const url = await databases.MariaDB(t)
    const name = new URL(url).pathname.slice(1)
    const whole = open(t, await databases.MariaDB(t))
    await migrate(whole.db)
    const expected = await shapeOf(whole)
    const user = name.slice(-16)
    await admin.query(`create user '${user}' identified by 'secret'`)
    t.teardown(async () => { await admin.query(`drop user '${user}'`) })
    await admin.query(`grant select, insert, update, delete on ${name}.* to '${user}'`)
    const own = Object.assign(new URL(url), { username: user, password: 'secret' }).href
    const missing: string[] = []
    for (let round = 0; round < 10; round++) {
      const outcome = await migrate(own).then(() => null, (err: Error) => err.message)
      if (outcome === null) break
      const [, right = ''] = /lacks the right ([A-Z]+): grant it and start again/.exec(outcome) ?? []
      if (right === '') t.fail(outcome)
      missing.push(right)
      await admin.query(`grant ${right} on ${name}.* to '${user}'`)
    }
    t.comment(`granted one after the other: ${missing.join(', ')}`)
    t.ok(missing.includes('CREATE') && missing.includes('INDEX'))
    t.strictSame(await shapeOf(open(t, url)), expected)
    await admin.query(`revoke create, index on ${name}.* from '${user}'`)
    await t.resolves(register(t, { database: own }), 'what is done needs no right')
  })
})
