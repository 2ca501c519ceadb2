// A host of somebody else: its own Kysely and its own Redis client, of the versions that its project has.
import Fastify from 'fastify'
import { channels, connections, presence, realtime, stats, typing } from 'fastify-realtime'
import { createClient } from 'fastify-realtime/client'
import { Redis } from 'ioredis'
import { Kysely, MysqlDialect } from 'kysely'
import { createPool } from 'mysql2'
import { WebSocket } from 'ws'

const db = new Kysely({ dialect: new MysqlDialect({ pool: createPool({ uri: process.env.DATABASE_URL }) }) })
const redis = new Redis(process.env.REDIS_URL)
const app = Fastify()
await app.register(realtime, {
  database: db, redis, authenticate: ({ token }) => token === undefined ? null : { tenantId: 1, userId: Number(token) }, authorize: () => true
})
for (const plugin of [connections, presence, typing, channels, stats]) await app.register(plugin)
const url = await app.listen({ port: 0, host: '127.0.0.1' })

const heard = []
const client = createClient({ baseUrl: `${url}/api/websocket`, token: '7', WebSocket })
const next = async (what, fits) => {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
    const found = heard.find(fits)
    if (found !== undefined) return found
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  throw new Error(`${what} never came, only ${JSON.stringify(heard)}`)
}
for (const event of ['connected', 'error', 'order:paid']) client.on(event, (data) => { heard.push({ event, ...data }) })
client.connect()
await next('the connection', ({ event }) => event === 'connected')
await client.subscribe('group.x')
await client.send('message:group', { channel: 'group.x', message: 'hi', conversationId: 'c' })

// Told at once only where the commit of this Kysely is noticed: the fastest of some, since the machine may be busy.
const delays = []
for (let order = 0; order < 5; order++) {
  await db.transaction().execute(async (transaction) => {
    await app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'order:paid', data: { order }, transaction })
  })
  const committed = performance.now()
  await next('order:paid', ({ event, order: paid }) => event === 'order:paid' && paid === order)
  delays.push(performance.now() - committed)
}
if (Math.min(...delays) > 200) throw new Error(`told ${delays.join(', ')} ms after the commit: the commit was not noticed`)

const health = await app.realtime.health()
if (!health.ok) throw new Error(JSON.stringify(health))
const response = await app.inject({ url: '/api/websocket/stats', headers: { authorization: 'Bearer 7' } })
if (response.statusCode !== 200 || response.json().data.total_connections !== 1) throw new Error(response.body)
await client.disconnect()
await app.close()
await db.destroy()
redis.disconnect()
console.log('works')
