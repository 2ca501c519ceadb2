#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { systemClock } from '../lib/clock.js'
import { readMeta } from '../lib/database/meta.js'
import { migrate } from '../lib/database/migrator.js'
import { openDatabase } from '../lib/database/open.js'
import { toSqlTime } from '../lib/database/time.js'
import { EpochStore } from '../lib/event-log/epoch-store.js'
import { withIds } from '../lib/id-schemas.js'
import { Ids, isIdKind } from '../lib/ids.js'
import { livingLeases } from '../lib/redis/older-nodes.js'
import { eraseFromRedis } from '../lib/roster/redis/erasure.js'
import { eraseUser } from '../lib/upkeep/erasure.js'
import { Maintenance } from '../lib/upkeep/maintenance.js'
import { asyncapi } from '../lib/wire/asyncapi.js'
import { eventsOf } from '../lib/wire/protocol.js'
import { connectionPurge } from './connections/store.js'
import { clientEvents, serverEvents } from './schemas.js'
import { typingPurge } from './typing/store.js'

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

const usage = `usage: fastify-realtime <command>

  migrate             bring the tables up to date; a new database gets the ids of --ids
  migrate down        undo the last migration
  restored            after restoring a backup or copying the database, before nodes start: a new epoch and identity
  cleanup             purge what is older than RETENTION_DAYS (default 30)
  erase               remove what a user wrote, and every trace of the user: --tenant T --user U
  cleanup-typing      remove expired typing indicators
  asyncapi            print the socket's AsyncAPI document, of all plugins, for the ids of --ids

  --ids integer|string  the ids of tenants and users, as the option ids of the host: integer unless given

The database is DATABASE_URL: mysql://user:password@host:port/db or sqlite:path.
Coming from version 0.1, migrate looks for nodes that still run in REDIS_URL, under KEY_PREFIX (rt), or in the tables.
erase also removes what Redis has of the user, if REDIS_URL, and KEY_PREFIX unless it is rt, are those of the host. It prints
{ total, rows } as JSON. Close or ban the user first: a connection that is open leaves traces when it ends.`

async function run (args: string[]): Promise<number> {
  const { positionals: [command, direction], values: { ids, tenant, user } } =
    parseArgs({ args, allowPositionals: true, options: { ids: { type: 'string' }, tenant: { type: 'string' }, user: { type: 'string' } } })
  if (ids !== undefined && !isIdKind(ids)) {
    console.error('--ids must be integer or string')
    return 2
  }
  if (command === 'asyncapi') {
    const events = eventsOf({ client: clientEvents, server: serverEvents })
    console.log(JSON.stringify(asyncapi({ events: withIds(events, ids ?? 'integer') }), null, 2))
    return 0
  }
  const url = process.env.DATABASE_URL
  const known = command === 'migrate' ? direction === undefined || direction === 'down' : command === 'cleanup' || command === 'cleanup-typing' || command === 'restored' || command === 'erase'
  if (!known) {
    console.error(usage)
    return 2
  }
  if (url === undefined || url === '') {
    console.error('DATABASE_URL is missing: mysql://user:password@host:port/db or sqlite:path')
    return 2
  }
  const retentionDays = Number(process.env.RETENTION_DAYS ?? 30)
  // An empty variable is 0 days: it would purge everything.
  if (!Number.isInteger(retentionDays) || retentionDays < 1) {
    console.error('RETENTION_DAYS must be a whole number of days, at least 1')
    return 2
  }
  const database = openDatabase(url)
  try {
    if (command === 'migrate') {
      const { REDIS_URL } = process.env
      const done = await migrate(database.db, direction === 'down' ? 'down' : 'up', {
        ids, ...REDIS_URL ? { olderNode: async () => await livingLeases(REDIS_URL, process.env.KEY_PREFIX ?? 'rt', silent) } : {}
      })
      console.log(done.length === 0 ? 'nothing to migrate' : `${direction === 'down' ? 'undone' : 'migrated'}: ${done.join(', ')}`)
      return 0
    }
    if (command === 'restored') {
      const { epoch, identity, marker } = await new EpochStore(database.db, new Ids((await readMeta(database.db)).ids), 'cli').restored(0)
      console.log(`epoch: ${epoch}, identity: ${identity}, ids continue after ${marker}`)
      return 0
    }
    if (command === 'erase') {
      const meta = await readMeta(database.db)
      const ids = new Ids(meta.ids)
      const [tenantId, userId] = [ids.read(tenant ?? ''), ids.read(user ?? '')]
      if (tenantId === null || userId === null) {
        console.error(`erase needs --tenant and --user, each ${ids.description}`)
        return 2
      }
      const { REDIS_URL, KEY_PREFIX = 'rt' } = process.env
      const erased = await eraseUser(database, ids, { tenantId, userId })
      if (REDIS_URL) await eraseFromRedis(REDIS_URL, `${KEY_PREFIX}:${meta.identity}`, ids, { tenantId, userId }, silent)
      console.log(JSON.stringify(erased))
      return 0
    }
    const clock = systemClock
    const typing = typingPurge(database.db, clock)
    const maintenance = new Maintenance({
      ...database, clock, log: silent, retentionDays, aliveNodes: async () => null, purges: [connectionPurge(database.db, clock), typing]
    })
    const removed = command === 'cleanup' ? await maintenance.run() : { typing: await typing.run({ before: toSqlTime(clock.now()), aliveNodes: null }) }
    console.log(Object.entries(removed).map(([what, count]) => `${what}: ${count}`).join(', '))
    return 0
  } finally {
    await database.close()
  }
}

run(process.argv.slice(2)).then((code) => { process.exitCode = code }, (err: unknown) => {
  console.error(err instanceof Error ? err.message : err)
  process.exitCode = err instanceof Error && 'code' in err && String(err.code).startsWith('ERR_PARSE_ARGS') ? 2 : 1
})
