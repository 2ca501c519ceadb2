import Fastify from 'fastify'
import { channels, connections, realtime, typing } from 'fastify-realtime'

const app = Fastify({ forceCloseConnections: true })

await app.register(realtime, {
  database: process.env.DATABASE_URL ?? 'sqlite:./chat.db',
  ids: 'string',
  presenceGrace: 500, // a user who leaves is gone as fast as with Socket.IO
  authenticate: ({ token }) => token ? { tenantId: 'acme', userId: token } : null,
  authorize: ({ channel }) => channel.startsWith('room.')
})
await app.register(connections)
await app.register(typing)
await app.register(channels, { members: () => 'list' })

console.log(await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' }))
