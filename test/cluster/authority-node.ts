import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import { internalsOf } from '../../lib/internals.js'
import { channels, connections, realtime } from '../../plugins/index.js'
import { answer } from './authority-calls.js'

/** A node under measurement: no logs, no limits, a host whose `authorize` takes a millisecond. */
let isAllowed = true
const app = Fastify({ trustProxy: true, forceCloseConnections: true })
await app.register(realtime, {
  database: process.env.DATABASE_URL,
  redis: process.env.REDIS_URL,
  hostTimeout: 60_000,
  // A token is `tenant.user.id of the token`.
  authenticate: async ({ token }) => {
    if (token === undefined) return null
    if (token === 'hangs') return await new Promise(() => {})
    const [tenantId, userId, tokenId] = token.split('.')
    return { tenantId: Number(tenantId), userId: Number(userId), tokenId: tokenId ?? null }
  },
  authorize: async () => {
    await sleep(1)
    return isAllowed
  }
})
await app.register(connections, { maxConnectionsPerUser: 100_000, framesPerSecond: 0 })
await app.register(channels)
const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
const { access, channels: { kick } } = app.realtime

answer({
  port: async () => Number(port),
  allow: async (allowed: boolean) => { isAllowed = allowed },
  /** Milliseconds of processor time so far. */
  cpu: async () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  },
  load: async () => internalsOf(app).access.load,
  kick: async (tenantId: number, userId: number, channel: string) => await kick(tenantId, userId, channel),
  ban: async (tenantId: number, userId: number) => await access.ban({ tenantId, userId }),
  unban: async (tenantId: number, userId: number) => await access.unban({ tenantId, userId }),
  revoke: async (tenantId: number, tokenId: string) => await access.revoke({ tenantId, tokenId }),
  recheck: async (tenantId: number) => await access.recheck({ tenantId }),
  stop: async () => {
    await app.close()
    setImmediate(() => process.exit())
  }
})
