import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { sql } from 'kysely'
import t from 'tap'
import { migrationNames } from '../lib/database/migrator.js'
import { openDatabase } from '../plugins/index.js'
import { CLI } from './cli.js'
import { dataFolder } from './exit-hooks.js'
import { createDatabase } from './servers.js'

interface Outcome { code: number, stdout: string, stderr: string }

/** Runs `fastify-realtime …args` with these variables. */
async function cli (env: Record<string, string>, ...args: string[]): Promise<Outcome> {
  const { DATABASE_URL: _, ...rest } = process.env
  return await new Promise((resolve) => {
    execFile(process.execPath, [...CLI, ...args], { env: { ...rest, ...env } }, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr })
    })
  })
}

const daysAgo = (days: number): string => new Date(Date.now() - days * 24 * 3600_000).toISOString().replace('T', ' ').slice(0, 23)

t.jobs = 2
for (const name of ['SQLite', 'MariaDB']) {
  void t.test(`On ${name}`, { buffered: true }, async (t) => {
    const { url, drop } = name === 'MariaDB'
      ? await createDatabase(process.env.DATABASE_URL ?? '')
      : { url: `sqlite:${join(dataFolder('cli'), 'sub', 'm.db')}`, drop: async () => {} }
    t.teardown(drop)
    const env = { DATABASE_URL: url }

    await t.test('migrate prints the migrations it ran', async (t) => {
      t.match(await cli(env, 'cleanup'), { code: 1, stderr: /websocket_/ }, 'before the tables are there')
      t.strictSame(await cli(env, 'migrate'), { code: 0, stdout: `migrated: ${migrationNames.join(', ')}\n`, stderr: '' })
    })

    await t.test('cleanup purges old rows, and only these', async (t) => {
      const database = openDatabase(url)
      t.teardown(async () => { await database.close() })
      const { db } = database
      const event = async (status: string, days: number) => await sql`
        insert into websocket_events (tenant_id, user_id, event_type, channel, payload, status, origin, created_at, updated_at)
        values (1, 1, ${`${status} ${days}`}, 'group.x', '{}', ${status}, 'test', ${daysAgo(days)}, ${daysAgo(days)})`.execute(db)
      for (const status of ['pending', 'delivered', 'failed']) for (const days of [31, 8, 6]) await event(status, days)
      for (const [status, days] of [['connected', 40], ['disconnected', 31], ['disconnected', 29]] as const) {
        await sql`insert into websocket_connections (tenant_id, user_id, connection_id, status, connected_at, last_activity_at, created_at, updated_at)
          values (1, 1, ${`${status} ${days}`}, ${status}, ${daysAgo(days)}, ${daysAgo(days)}, ${daysAgo(days)}, ${daysAgo(days)})`.execute(db)
      }
      for (const days of [1, -1]) {
        await sql`insert into websocket_typing_indicators (tenant_id, user_id, conversation_id, conversation_type, started_at, expires_at, created_at, updated_at)
          values (1, 1, ${`c ${days}`}, 'direct', ${daysAgo(days)}, ${daysAgo(days)}, ${daysAgo(days)}, ${daysAgo(days)})`.execute(db)
      }
      const events = async () => (await db.selectFrom('websocket_events').select(['event_type', 'status', 'error_message']).orderBy('id').execute())
        .map((row) => `${row.event_type}: ${row.status}`)
      const conversations = async () => (await db.selectFrom('websocket_typing_indicators').select('conversation_id').orderBy('id').execute())
        .map((row) => row.conversation_id)
      if (name === 'SQLite') {
        const before = await events()
        for (const RETENTION_DAYS of ['', 'a month']) {
          t.match(await cli({ ...env, RETENTION_DAYS }, 'cleanup'), { code: 2, stderr: /RETENTION_DAYS/ }, `RETENTION_DAYS=${RETENTION_DAYS}`)
          t.strictSame(await events(), before, `RETENTION_DAYS=${RETENTION_DAYS} removes nothing`)
        }
      }
      t.match(await cli(env, 'cleanup-typing'), { code: 0, stdout: /typing: 1/ })
      t.strictSame(await conversations(), ['c -1'])
      t.match(await cli(env, 'cleanup'), { code: 0, stdout: /events: 3.*connections: 1/ })
      t.strictSame(await events(), ['pending 8: failed', 'pending 6: pending', 'delivered 8: delivered', 'delivered 6: delivered', 'failed 8: failed', 'failed 6: failed'])
      t.strictSame((await db.selectFrom('websocket_connections').select('connection_id').orderBy('id').execute()).map((row) => row.connection_id),
        ['connected 40', 'disconnected 29'])
    })

    await t.test('migrate down takes the last migration back, and the tables with the first', async (t) => {
      for (const migration of migrationNames.toReversed()) {
        t.strictSame(await cli(env, 'migrate', 'down'), { code: 0, stdout: `undone: ${migration}\n`, stderr: '' })
      }
    })

    await t.test('migrate --ids makes tables for string ids, and refuses to change them', async (t) => {
      t.match(await cli(env, 'migrate', '--ids', 'uuid'), { code: 2, stderr: /--ids must be integer or string/ })
      t.match(await cli(env, 'migrate', '--id', 'string'), { code: 2, stderr: /--id/ })
      t.match(await cli(env, 'migrate', '--ids', 'string'), { code: 0, stdout: /^migrated: 001/ })
      t.match(await cli(env, 'migrate', '--ids', 'integer'), { code: 1, stderr: /ids.*'integer'.*has string ids/ })
      t.match(await cli(env, 'migrate'), { code: 0, stdout: 'nothing to migrate\n' })
      t.match(await cli(env, 'restored'), { code: 0, stdout: /^epoch: / })
      const database = openDatabase(url)
      t.teardown(async () => { await database.close() })
      t.match(await database.db.selectFrom('websocket_events').select(['tenant_id', 'user_id']).execute(), [{ tenant_id: '', user_id: '' }], 'the marker is nobody’s')
      const { stdout } = await cli({}, 'asyncapi', '--ids', 'string')
      t.match(JSON.parse(stdout).components.messages['client.message.direct'].payload.properties.data.properties.recipientId, { type: 'string', maxLength: 64 })
    })
  })
}

t.test('an unknown command or a missing database prints the usage', async (t) => {
  const [none, sideways, missing, empty, unknown] = await Promise.all([
    cli({ DATABASE_URL: 'sqlite::memory:' }),
    cli({ DATABASE_URL: 'sqlite::memory:' }, 'migrate', 'sideways'),
    cli({}, 'migrate'),
    cli({ DATABASE_URL: '' }, 'cleanup'),
    cli({ DATABASE_URL: 'postgres://localhost/db' }, 'cleanup-typing')
  ])
  for (const outcome of [none, sideways]) {
    t.match(outcome, { code: 2, stdout: '', stderr: /usage: fastify-realtime <command>[^]*migrate down[^]*cleanup[^]*cleanup-typing/ })
  }
  for (const outcome of [missing, empty]) t.match(outcome, { code: 2, stdout: '', stderr: /^DATABASE_URL/ })
  t.match(unknown, { code: 1, stdout: '', stderr: /database/ })
})
