import { internalsOf } from '../lib/internals.js'
import { buildApp } from '../plugins/testing.js'

/** A host with SEED users online, entered into the roster directly; over REDIS_URL. */
const seed = Number(process.env.SEED)
const { app } = await buildApp({
  plugins: ['connections', 'presence'],
  core: { redis: process.env.REDIS_URL, keyPrefix: `seed${seed}`, requestsPerMinute: 0, authenticate: () => ({ tenantId: 1, userId: 1 }) }
})
const { nodeId } = app.realtime
const { roster } = internalsOf(app)
for (let at = 0; at < seed; at += 500) {
  await Promise.all(Array.from({ length: Math.min(500, seed - at) }, async (_, i) => await roster.join({
    tenantId: 1, userId: 1 + at + i, connectionId: `c${at + i}`, nodeId, device: 'web', connectedAt: Date.now()
  }, 20)))
}
await app.listen({ port: 0, host: '127.0.0.1' })
const address = app.server.address()
if (typeof address === 'object') console.log(`listening on ${address?.port}`)
