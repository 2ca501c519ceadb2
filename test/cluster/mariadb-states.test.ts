import { createPool, type Pool, type RowDataPacket } from 'mysql2/promise'
import t from 'tap'
import { startMariadb } from '../servers.js'
import { Client } from './client.js'
import { APP, startSite, survive } from './faults.js'

t.test('MariaDB in other states than up and down', async (t) => {
  const site = await startSite(t)
  const { admin, mariadb } = site

  await t.test('its table is locked for 5 s: what is refused as not stored is not told, and a retry is told once', async (t) => {
    const locking = await admin.getConnection()
    const [sender, reader] = [await Client.connect(site.nodes[0] as never, { userId: 1, clubId: 50 }), await Client.connect(site.nodes[1] as never, { userId: 2, clubId: 50 })]
    await reader.request('subscribe', { channel: 'group.x' })
    const retried = async (): Promise<unknown> => {
      for (;;) {
        try {
          return await sender.request('message:group', { channel: 'group.x', message: 'once', conversationId: 'c', dedupeId: 'mine' })
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 300))
        }
      }
    }
    let retry: Promise<unknown> | undefined
    const load = await survive(t, site, {
      clubId: 1,
      begin: async () => {
        await locking.query('lock tables websocket_events write')
        retry = retried()
      },
      end: async () => {
        await locking.query('unlock tables')
        locking.release()
      },
      lasts: 5000
    })
    t.ok(load.refusals.length > 0)
    await retry
    await reader.next('message:group', 5000, (data) => data.message === 'once')
    t.equal((await site.rows('select id from websocket_events where tenant_id = 50 and durable = 1')).length, 1)
    t.equal(reader.all('message:group').length, 1, 'told once')
  })

  await t.test('all its connections are killed: nobody is refused for long', async (t) => {
    await survive(t, site, {
      clubId: 2,
      begin: async () => {
        for (let i = 0; i < 5; i++) {
          const [list] = await admin.query<RowDataPacket[]>("select id from information_schema.processlist where user = 'app'")
          for (const { id } of list) await admin.query(`kill ${id}`).catch(() => {})
        }
      },
      end: async () => {},
      brief: true
    })
  })

  await t.test('its statements are interrupted again and again', async (t) => {
    let stop = false
    let interrupting: Promise<void> | undefined
    await survive(t, site, {
      clubId: 3,
      begin: async () => {
        interrupting = (async () => {
          while (!stop) {
            const [list] = await admin.query<RowDataPacket[]>("select id from information_schema.processlist where user = 'app' and command = 'Query'")
            for (const { id } of list) await admin.query(`kill query ${id}`).catch(() => {})
          }
        })()
      },
      end: async () => {
        stop = true
        await interrupting
      },
      brief: true,
      lasts: 2000
    })
  })

  await t.test('the tables are lost for a while', async (t) => {
    await survive(t, site, {
      clubId: 4,
      begin: async () => { await admin.query('rename table websocket_events to gone') },
      end: async () => { await admin.query('rename table gone to websocket_events') }
    })
  })

  await t.test('the password is changed, and later changed back', async (t) => {
    await survive(t, site, {
      clubId: 5,
      begin: async () => {
        await admin.query("alter user app identified by 'other'")
        const [list] = await admin.query<RowDataPacket[]>("select id from information_schema.processlist where user = 'app'")
        for (const { id } of list) await admin.query(`kill ${id}`).catch(() => {})
      },
      end: async () => { await admin.query("alter user app identified by 'app'") }
    })
  })

  await t.test('it is frozen', async (t) => {
    await survive(t, site, { clubId: 6, begin: async () => { mariadb.pause() }, end: async () => { mariadb.resume() }, lasts: 4000 })
  })

  await t.test('it accepts no writes for a while', async (t) => {
    await survive(t, site, {
      clubId: 7, begin: async () => { await admin.query('set global read_only = 1') }, end: async () => { await admin.query('set global read_only = 0') }
    })
  })

  await t.test('it is demoted to a read-only replica, and its name points to another server', async (t) => {
    const promoted = await startMariadb()
    const other = createPool({ uri: promoted.url, jsonStrings: true, dateStrings: true, timezone: 'Z', connectionLimit: 2 })
    t.teardown(async () => {
      other.end().catch(() => {})
      await promoted.kill()
    })
    await other.query(APP)
    await other.query('grant all on test.* to app')
    await survive(t, site, {
      clubId: 8,
      begin: async () => { await admin.query('set global read_only = 1') },
      end: async () => {
        await copy(admin, other)
        site.moved(other)
        site.forwarder.point(promoted.port)
      }
    })
    t.teardown(async () => { await admin.end().catch(() => {}) })
  })
})

/** Every table as it is: what a replica holds that lost nothing. */
async function copy (from: Pool, to: Pool): Promise<void> {
  const [tables] = await from.query<RowDataPacket[]>("select table_name as name from information_schema.tables where table_schema = 'test'")
  for (const { name } of tables) {
    const [[made]] = await from.query<RowDataPacket[]>(`show create table ${name}`)
    await to.query((made as Record<string, string>)['Create Table'] ?? '')
    const [rows] = await from.query<RowDataPacket[]>({ sql: `select * from ${name}`, rowsAsArray: true })
    for (let at = 0; at < rows.length; at += 500) await to.query(`insert into ${name} values ?`, [rows.slice(at, at + 500)])
  }
}
