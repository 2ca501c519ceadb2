import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool, RowDataPacket } from 'mysql2/promise'
import { createPool } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { startMariadb, type Server } from '../servers.js'
import { Client } from './client.js'
import { clusterFor } from './cluster.js'
import { suffer, type Fault } from './faults.js'
import { type Load, startLoad } from './load.js'
import { until } from './until.js'

t.test('MariaDB is in a state other than up and down', async (t) => {
  const node = { proxied: 'database', env: { LOG_LEVEL: 'info' } } as const
  const { cluster, nodes } = await clusterFor(t, [node, node], { restricted: true })
  const { admin, mariadb } = cluster
  let clubId = 0
  /** Each in a tenant of its own. */
  const nextLoad = async (t: Test): Promise<Load> => await startLoad(t, nodes, { clubId: ++clubId, count: 10 })
  const undergo = async (t: Test, fault: Omit<Fault, 'cluster' | 'nodes' | 'load'>): Promise<void> => {
    await suffer(t, { cluster, nodes, load: await nextLoad(t), ...fault })
  }
  const connectionsOfNodes = async (also = ''): Promise<RowDataPacket[]> =>
    (await admin.query<RowDataPacket[]>(`select id from information_schema.processlist where user = 'app'${also}`))[0]

  await t.test('its table is locked for 5 s: events refused as not stored are never delivered, and a retry is delivered once', async (t) => {
    const locking = await admin.getConnection()
    const [sender, reader] = await Promise.all([Client.connect(nodes[0], { userId: 1, clubId: 50 }), Client.connect(nodes[1], { userId: 2, clubId: 50 })])
    await reader.request('subscribe', { channel: 'group.x' })
    const retried = async (): Promise<unknown> => {
      for (;;) {
        try {
          return await sender.request('message:group', { channel: 'group.x', message: 'once', conversationId: 'c', dedupeId: 'mine' })
        } catch {
          await sleep(300)
        }
      }
    }
    let retry: Promise<unknown> | undefined
    const load = await nextLoad(t)
    await suffer(t, {
      name: 'MariaDB, table locked',
      cluster,
      nodes,
      load,
      begin: async () => {
        await locking.query('lock tables websocket_events write')
        retry = retried()
      },
      meanwhile: async () => { await sleep(5000) },
      end: async () => {
        await locking.query('unlock tables')
        locking.release()
      }
    })
    t.ok(load.refusals.length > 0)
    await retry
    await reader.next('message:group', 5000, (data) => data.message === 'once')
    t.equal((await cluster.rows('select id from websocket_events where tenant_id = 50 and durable = 1')).length, 1)
    t.equal(reader.all('message:group').length, 1)
  })

  await t.test('it closes all connections: sends are refused for a moment at most', async (t) => {
    await undergo(t, {
      name: 'MariaDB, connections closed',
      begin: async () => {
        for (let i = 0; i < 5; i++) {
          for (const { id } of await connectionsOfNodes()) await admin.query(`kill ${id}`).catch(() => {})
        }
      },
      silent: true
    })
  })

  await t.test('it interrupts statements for two seconds', async (t) => {
    await undergo(t, {
      name: 'MariaDB, statements interrupted',
      begin: async () => {
        for (const until = Date.now() + 2000; Date.now() < until;) {
          for (const { id } of await connectionsOfNodes(" and command = 'Query'")) await admin.query(`kill query ${id}`).catch(() => {})
        }
      },
      silent: true
    })
  })

  await t.test('it lacks the table for a while', async (t) => {
    await undergo(t, {
      name: 'MariaDB, table missing',
      begin: async () => { await admin.query('rename table websocket_events to gone') },
      end: async () => { await admin.query('rename table gone to websocket_events') }
    })
  })

  await t.test('it refuses the password, and takes it again later', async (t) => {
    await undergo(t, {
      name: 'MariaDB, password changed',
      begin: async () => {
        await admin.query("alter user app identified by 'other'")
        for (const { id } of await connectionsOfNodes()) await admin.query(`kill ${id}`).catch(() => {})
      },
      end: async () => { await admin.query("alter user app identified by 'app'") }
    })
  })

  await t.test('it freezes', async (t) => {
    await undergo(t, { name: 'MariaDB, frozen', begin: () => { mariadb.pause() }, end: () => { mariadb.resume() } })
  })

  await t.test('it accepts no writes for a while', async (t) => {
    await undergo(t, {
      name: 'MariaDB, read-only',
      begin: async () => { await admin.query('set global read_only = 1') },
      end: async () => { await admin.query('set global read_only = 0') }
    })
  })

  await t.test('it becomes a read-only replica, and its name points to the new primary', async (t) => {
    const promoted = await startReplica(t)
    await undergo(t, {
      name: 'MariaDB, demoted',
      begin: async () => { await admin.query('set global read_only = 1') },
      end: async () => {
        await copyDatabase(admin, promoted.pool)
        await cluster.moveTo(promoted.server)
      }
    })
  })
})

t.test('MariaDB dies, and a replica without its newest commits takes its place: ids are not used again, and nothing else is lost', async (t) => {
  const node = { proxied: 'database', env: { LOG_LEVEL: 'info' } } as const
  const { cluster, nodes } = await clusterFor(t, [node, node], { restricted: true })
  const replica = await startReplica(t)
  const load = await startLoad(t, nodes, { count: 10 })
  await until('messages flow', 10_000, () => load.acked.length > 100)
  await copyDatabase(cluster.admin, replica.pool)
  const [newest] = (await replica.pool.query<RowDataPacket[]>('select max(id) as id from websocket_events'))[0]
  const copied = load.acked.length
  await until('the replica lags behind', 10_000, () => load.acked.length > copied + 100)

  const lost = new Set<number>()
  await suffer(t, {
    name: 'MariaDB, lagging replica promoted',
    cluster,
    nodes,
    load,
    begin: async () => { await cluster.mariadb.kill() },
    end: async () => {
      const largest = Math.max(...load.acked.map(({ messageId }) => messageId), ...load.receivers.flatMap(({ ids }) => ids))
      for (let id = Number(newest?.id) + 1; id <= largest; id++) lost.add(id)
      await cluster.moveTo(replica.server)
    },
    lostByDatabase: () => lost
  })
  t.ok(lost.size > 100, `${lost.size} ids were lost`)
  const again = (await cluster.rows('select id from websocket_events')).filter(({ id }) => lost.has(Number(id)))
  t.strictSame(again, [], 'none of them is used again')
})

/** A MariaDB that holds nothing yet. */
async function startReplica (t: Test): Promise<{ server: Server, pool: Pool }> {
  const server = await startMariadb()
  const pool = createPool({ uri: server.url, jsonStrings: true, dateStrings: true, timezone: 'Z', connectionLimit: 2 })
  t.teardown(async () => {
    pool.end().catch(() => {})
    await server.kill()
  })
  return { server, pool }
}

/** Copies every table as it is in this moment. */
async function copyDatabase (from: Pool, to: Pool): Promise<void> {
  const source = await from.getConnection()
  try {
    await source.query('start transaction with consistent snapshot')
    const [tables] = await source.query<RowDataPacket[]>("select table_name as name from information_schema.tables where table_schema = 'test'")
    for (const { name } of tables) {
      const [[made]] = await source.query<RowDataPacket[]>(`show create table ${name}`)
      await to.query((made as Record<string, string>)['Create Table'] ?? '')
      const [rows] = await source.query<RowDataPacket[]>({ sql: `select * from ${name}`, rowsAsArray: true })
      for (let at = 0; at < rows.length; at += 500) await to.query(`insert into ${name} values ?`, [rows.slice(at, at + 500)])
    }
    await source.query('commit')
  } finally {
    source.release()
  }
}
