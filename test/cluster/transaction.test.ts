import Fastify from 'fastify'
import t from 'tap'
import { channels, connections, openDatabase, realtime, type HostTransaction } from '../../plugins/index.js'
import { Client, rest } from './client.js'
import { clusterFor } from './cluster.js'

const GROUP = 'group.orders'

t.test('an event is not sent if its transaction rolls back', async (t) => {
  const { cluster, nodes: [b] } = await clusterFor(t, [{}])
  // A node of the same cluster in this process, so that its host's transactions can be looked at.
  const database = openDatabase(cluster.mariadb.url)
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    await database.close()
  })
  await app.register(realtime, { database: database.db, redis: cluster.redis.url, authenticate: () => null })
  await app.register(connections)
  await app.register(channels)
  await app.ready()
  const db = database.db.withTables<{ orders: { id: number } }>()
  await db.schema.createTable('orders').addColumn('id', 'integer').execute()

  const reader = await Client.connect(b, { userId: 1 })
  await reader.request('subscribe', { channel: GROUP })
  const order = (id: number, transaction?: HostTransaction) => app.realtime.channels.publish({
    tenantId: 1, channel: GROUP, event: 'order:placed', data: { order: id }, ...(transaction === undefined ? {} : { transaction })
  })

  await t.test('rolled back events are never published, nor found by recovery', async (t) => {
    await t.rejects(db.transaction().execute(async (trx) => {
      await trx.insertInto('orders').values({ id: 1 }).execute()
      await order(1, trx)
      throw new Error('no stock')
    }), { message: 'no stock' })
    await db.transaction().execute(async (trx) => {
      await trx.insertInto('orders').values({ id: 2 }).execute()
      await order(2, trx)
    })
    await order(3)
    await reader.next('order:placed', 3000, (data) => data.order === 3)
    await reader.next('order:placed', 3000, (data) => data.order === 2)
    t.strictSame(reader.all('order:placed').map(({ data }) => data.order as number).sort(), [2, 3])
    const { data } = await rest(b, { userId: 1 }, `/events?channel=${GROUP}`)
    t.strictSame((data as Array<{ data: { order: number } }>).map((event) => event.data.order), [2, 3])
  })

  await t.test('nothing is published before the commit: a client that receives an order’s event finds the order', async (t) => {
    let committed = false
    let early = false
    const found = new Promise<unknown>((resolve, reject) => {
      reader.onFrame = ({ event, data }) => {
        if (event !== 'order:placed' || data.order !== 4) return
        early = !committed
        cluster.rows('select id from orders where id = 4').then(resolve, reject)
      }
    })
    await db.transaction().execute(async (trx) => {
      await order(4, trx)
      // Long enough for a sweeper that would not wait.
      await reader.request('ping', {})
      await new Promise((resolve) => setTimeout(resolve, 1500))
      await trx.insertInto('orders').values({ id: 4 }).execute()
      committed = true
    })
    t.strictSame(await found, [{ id: 4 }])
    t.equal(early, false)
  })
})
