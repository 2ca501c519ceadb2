import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { migrate, openDatabase } from '../plugins/index.js'
import { temporaryFolder } from './exit-hooks.js'
import { createDatabase } from './servers.js'

const run = promisify(execFile)

const columns: Record<string, string[]> = {
  websocket_events: ['id', 'tenant_id', 'user_id', 'event_type', 'channel', 'payload', 'status', 'retry_count', 'error_message', 'created_at', 'updated_at'],
  websocket_connections: ['id', 'tenant_id', 'user_id', 'connection_id', 'session_id', 'browser', 'device_type', 'ip_address', 'subscribed_channels',
    'status', 'connected_at', 'last_activity_at', 'disconnected_at', 'created_at', 'updated_at'],
  websocket_typing_indicators: ['id', 'tenant_id', 'user_id', 'conversation_id', 'conversation_type', 'is_typing', 'started_at', 'expires_at', 'created_at', 'updated_at'],
  websocket_presence: ['id', 'tenant_id', 'user_id', 'status', 'device', 'last_message', 'away_since', 'last_seen_at', 'created_at', 'updated_at']
}

const databases: Array<[name: string, create: () => Promise<{ url: string, drop: () => Promise<void> }>]> = [
  ['SQLite', async () => ({ url: `sqlite:${join(temporaryFolder('migrations'), 'm.db')}`, drop: async () => {} })],
  ['MariaDB', async () => await createDatabase(process.env.DATABASE_URL ?? '')]
]

for (const [name, create] of databases) {
  t.test(`On ${name}`, async (t) => {
    const { url, drop } = await create()
    const { db, close } = openDatabase(url)
    t.teardown(async () => {
      await close()
      await drop()
    })
    const tables = async () => (await db.introspection.getTables()).filter((table) => table.name.startsWith('websocket_') && !table.name.includes('migration'))

    t.test('migrations go up, down and up again, with the guide’s tables and columns', async (t) => {
      for (let round = 0; round < 2; round++) {
        t.same(await migrate(db), ['001-initial'])
        const found = await tables()
        for (const [table, expected] of Object.entries(columns)) {
          const names = found.find((one) => one.name === table)?.columns.map((column) => column.name) ?? []
          t.same(expected.filter((column) => !names.includes(column)), [], table)
        }
        t.same(await migrate(db), [], 'nothing left to do')
        t.same(await migrate(db, 'down'), ['001-initial'])
        t.same(await tables(), [])
      }
    })

    // SQLite is for one process.
    if (name === 'MariaDB') t.test('two nodes may migrate at once', async (t) => {
      const other = openDatabase(url)
      t.teardown(other.close)
      const done = await Promise.all([migrate(db), migrate(other.db)])
      t.same(done.flat(), ['001-initial'])
      await migrate(db, 'down')
    })

    t.test('the command line migrates, cleans up and says what it did', async (t) => {
      const cli = async (...args: string[]) => (await run(process.execPath, ['--import', 'tsx', 'lib/cli.ts', ...args], { env: { ...process.env, DATABASE_URL: url } })).stdout
      t.match(await cli('migrate'), /migrated: 001-initial/)
      t.match(await cli('cleanup'), /events: 0, connections: 0/)
      t.match(await cli('cleanup-typing'), /typing: 0/)
      t.match(await cli('migrate', 'down'), /taken back: 001-initial/)
      await t.rejects(cli('nonsense'), { code: 2, stderr: /usage/ })
    })
  })
}

t.test('The command line says that it needs a database', async (t) => {
  const env = { ...process.env, DATABASE_URL: '' }
  await t.rejects(run(process.execPath, ['--import', 'tsx', 'lib/cli.ts', 'migrate'], { env }), { code: 2, stderr: /DATABASE_URL/ })
})
