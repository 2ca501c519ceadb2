import cors from '@fastify/cors'
import jwt from '@fastify/jwt'
import type { Static } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import {
  channels, connections, conversations, openDatabase, presence, realtime, stats, typing, type Authenticate, type Authorize, type Id
} from '../plugins/index.js'
import { ErrorResponse, withIds } from '../plugins/schemas.js'
import { documents, open } from './documents.js'
import { events, mayWatch, publishFigures } from './figures.js'
import { guard } from './guard.js'
import { operators } from './operators.js'
import { page } from './page.js'
import { people } from './people.js'
import { Health, LoggedIn, Login } from './schemas.js'
import type { Settings } from './settings.js'
import { openUsers } from './users.js'

/** The claims of this host's tokens. */
interface Claims { sub: string, club: Id, name?: string, admin?: boolean, exp?: number, iat?: number, jti?: string }

declare module '@fastify/jwt' {
  interface FastifyJWT {
    payload: Claims
    user: Claims
  }
}

/** The channels of a club. */
const OURS = /^(group|conversation)\./

/** A host that composes all plugins with JWTs of its own. Short enough to be read as the manual. */
export async function buildApp (settings: Settings): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: settings.logLevel }, forceCloseConnections: true })

  // The host's own things: auth, CORS, documents.
  // Expired tokens are distinguished from invalid ones: fastify-realtime compares `expiresAt` itself.
  await app.register(jwt, { secret: settings.jwtSecret, sign: { expiresIn: '12h' }, verify: { ignoreExpiration: true } })
  await app.register(cors, { origin: settings.allowedOrigins, credentials: true })
  if (settings.production) guard(app)
  await documents(app)

  // One database for the host's own table and fastify-realtime's. The host closes it.
  const database = openDatabase(settings.database)
  app.addHook('onClose', async () => { await database.close() })

  // Who is it?
  const authenticate: Authenticate = ({ token }) => {
    if (token === undefined) return null
    try {
      const { sub, club, name, exp, iat, jti, admin } = app.jwt.verify<Claims>(token)
      return {
        tenantId: club,
        userId: settings.ids === 'integer' ? Number(sub) : sub as unknown as Id,
        ...(name === undefined ? {} : { name }),
        expiresAt: exp === undefined ? null : exp * 1000,
        issuedAt: iat === undefined ? null : iat * 1000,
        tokenId: jti ?? null,
        claims: { admin: admin === true }
      }
    } catch {
      return null
    }
  }

  // What may users do? Members of a club use its groups and conversations; an admin broadcasts, and watches the dashboard.
  const authorize: Authorize = ({ identity, action, channel }) => {
    switch (action) {
      case 'subscribe': return OURS.test(channel) || mayWatch(identity, channel)
      case 'publish': return OURS.test(channel)
      case 'direct':
      case 'notify': return true
      case 'broadcast': return (identity.claims as { admin: boolean }).admin
    }
  }

  // What are the names of users?
  const users = await openUsers(database, settings.ids)

  await app.register(realtime, {
    database: database.db,
    redis: settings.redis,
    ids: settings.ids,
    secret: settings.backplaneSecrets.length === 0 ? undefined : settings.backplaneSecrets,
    failedAuthPerMinute: settings.failedAuthPerMinute,
    audit: settings.audit,
    authenticate,
    authorize,
    resolveUsers: users.names
  })
  const plugins = {
    connections: async () => {
      const { allowedOrigins, framesPerSecond, maxPerAddress, maxPendingPerAddress, limitPrivateAddresses, connectRate } = settings
      await app.register(connections, { allowedOrigins, framesPerSecond, maxPerAddress, maxPendingPerAddress, limitPrivateAddresses, connectRate })
    },
    presence: async () => { await app.register(presence, { everyone: settings.presenceEveryone }) },
    typing: async () => { await app.register(typing) },
    channels: async () => {
      const { messagesPerMinute, recipientsPerMinute } = settings
      await app.register(channels, {
        events,
        messagesPerMinute,
        recipientsPerMinute,
        // Who is in a group is shown to its members.
        members: (channel) => channel.startsWith('group.') ? 'list' : false
      })
    },
    conversations: async () => { await app.register(conversations) },
    stats: async () => { await app.register(stats, settings.metrics === undefined ? {} : { metrics: settings.metrics }) }
  }
  for (const name of settings.plugins) await plugins[name]()
  if (settings.metrics !== undefined && settings.plugins.includes('stats') && settings.plugins.includes('channels')) publishFigures(app, settings)

  app.get('/health', {
    schema: { ...open, tags: ['host'], summary: 'Whether database and Redis answer', response: { 200: Health, 503: Health } }
  }, async (_request, reply) => {
    const health = await app.realtime.health()
    return await reply.code(health.ok ? 200 : 503).send(health)
  })

  if (!settings.production) {
    app.post<{ Body: Static<typeof Login> }>('/login', {
      schema: withIds({
        ...open,
        tags: ['host'],
        summary: 'Get a token for any user: for the demo only',
        body: Login,
        response: { 200: LoggedIn, 400: ErrorResponse, 413: ErrorResponse, 415: ErrorResponse, 500: ErrorResponse }
      }, settings.ids)
    }, async (request) => {
      const { userId, clubId, name = `User ${userId}`, admin = false } = request.body
      await users.remember(clubId, userId, name)
      const token = app.jwt.sign({ sub: String(userId), club: clubId, name, ...(admin ? { admin } : {}) })
      return { token, userId, clubId, name }
    })
  }

  people(app, users, settings.ids)
  if (['connections', 'presence', 'channels'].every((name) => settings.plugins.includes(name as typeof settings.plugins[number]))) await operators(app, settings)
  await page(app, settings.ids)
  return app
}
