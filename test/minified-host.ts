import Fastify from 'fastify'
import { Kysely, MysqlDialect, SqliteDialect } from 'kysely'
import Libsql from 'libsql'
import { createPool } from 'mysql2'
import { channels, connections, realtime } from '../plugins/index.js'

/** A host that its developers bundle into one minified file: it starts on each kind of database and stores an event. */
const mysql = process.env.DATABASE_URL ?? ''
const databases: Record<string, () => unknown> = {
  'an SQLite URL': () => 'sqlite::memory:',
  'a MySQL URL': () => mysql,
  'a Kysely instance on SQLite': () => new Kysely({ dialect: new SqliteDialect({ database: new Libsql(':memory:') }) }),
  'a Kysely instance on MySQL': () => new Kysely({ dialect: new MysqlDialect({ pool: createPool({ uri: mysql }) }) })
}
for (const [name, open] of Object.entries(databases)) {
  const app = Fastify()
  try {
    await app.register(realtime, { database: open(), authenticate: () => null })
    await app.register(connections)
    await app.register(channels)
    await app.ready()
    const { messageId } = await app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: {} })
    const health = await app.realtime.health()
    console.log(`${name}: ${messageId > 0 && health.ok ? 'works' : 'does not work'}`)
  } catch (err) {
    console.log(`${name}: ${String(err)}`)
  }
  await app.close()
}
process.exit(0)
