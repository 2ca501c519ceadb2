import { randomUUID } from 'node:crypto'
import cookie from '@fastify/cookie'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import sensible from '@fastify/sensible'
import session from '@fastify/session'
import swagger from '@fastify/swagger'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import {
  hasZodFastifySchemaValidationErrors, jsonSchemaTransform, serializerCompiler, validatorCompiler, type ZodTypeProvider
} from 'fastify-type-provider-zod'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { DeskDatabase } from './database.js'

declare module 'fastify' {
  interface Session {
    accountId?: string
  }
}

export interface DeskParts {
  db: DeskDatabase
  redis: Redis
  /** Requests a minute and address, over all of the product. */
  requestsPerMinute?: number
}

/** Paths that need no session. */
const PUBLIC = ['/login', '/health', '/webhooks/payment', '/openapi.json']

const Order = z.object({ id: z.number().int(), item: z.string() })

/**
 * An order desk as people write them: schemas in Zod, a session cookie, limits, an envelope around every answer and an
 * error handler of its own. It knows nothing of fastify-realtime.
 */
export async function buildDesk ({ db, redis, requestsPerMinute = 40 }: DeskParts): Promise<FastifyInstance> {
  const app = Fastify({ bodyLimit: 16 * 1024, ajv: { customOptions: { coerceTypes: false, removeAdditional: 'all' } } })

  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const known = hasZodFastifySchemaValidationErrors(error) ? 422 : error.statusCode
    // Only the product's own errors tell their text; whatever else is thrown is an accident.
    const isOwn = error.name.endsWith('Error') && error instanceof app.httpErrors.HttpError
    const status = isOwn || known === 422 || known === 429 || known === 503 ? known ?? 500 : 500
    return reply.code(status).send({ ok: false, problem: { status, text: status === 500 ? 'Something went wrong' : error.message } })
  })
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)

  // The payment provider signs the bytes, so that every JSON body is kept as it came.
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (request.url.startsWith('/webhooks/')) return done(null, body)
    try {
      done(null, body.length === 0 ? {} : JSON.parse(body.toString()))
    } catch (err) {
      done(err as Error)
    }
  })

  await app.register(sensible)
  await app.register(helmet)
  await app.register(underPressure, { maxEventLoopDelay: 20_000 })
  await app.register(rateLimit, { max: requestsPerMinute, timeWindow: 60_000 })
  await app.register(cookie)
  await app.register(session, { secret: 'a secret of the desk, at least 32 characters long', cookie: { secure: false }, saveUninitialized: false })
  await app.register(swagger, { openapi: { info: { title: 'Desk', version: '1' } }, transform: jsonSchemaTransform })
  app.addHook('onRequest', async (request) => {
    if (request.session.accountId === undefined && !PUBLIC.includes(request.url)) throw app.httpErrors.unauthorized('Log in first')
  })
  app.addHook('preSerialization', async (_request, _reply, payload) =>
    typeof payload === 'object' && payload !== null && 'ok' in payload ? payload : { ok: true, result: payload })
  await app.register(websocket)

  await app.register(async (scope) => {
    const routes = scope.withTypeProvider<ZodTypeProvider>()
    routes.post('/login', { schema: { body: z.object({ name: z.string().min(1), company: z.number().int() }) } }, async (request) => {
      const { name, company } = request.body
      const known = await db.selectFrom('desk_accounts').select('id').where('name', '=', name).where('company', '=', company).executeTakeFirst()
      const id = known?.id ?? randomUUID()
      if (known === undefined) await db.insertInto('desk_accounts').values({ id, name, company }).execute()
      request.session.accountId = id
      return { id }
    })
    routes.get('/health', { config: { rateLimit: false } }, async () => ({ redis: await redis.ping() }))
    routes.get('/openapi.json', { config: { rateLimit: false }, schema: { hide: true } }, async (_request, reply) =>
      await reply.type('application/json').send(JSON.stringify(app.swagger())))
    routes.post('/webhooks/payment', async (request) => ({ bytes: (request.body as Buffer).length }))
    routes.get('/orders', { schema: { response: { 200: z.object({ ok: z.literal(true), result: z.array(Order) }) } } }, async (request, reply) => {
      const orders = await db.selectFrom('desk_orders').select(['id', 'item']).where('account_id', '=', request.session.accountId ?? '').orderBy('id').execute()
      return await reply.send({ ok: true as const, result: orders })
    })
    routes.post('/orders', { schema: { body: z.object({ item: z.string().min(1).max(100) }) } }, async (request) => {
      if (request.body.item === 'the moon') throw app.httpErrors.conflict('Sold out')
      const accountId = request.session.accountId ?? ''
      const { insertId } = await db.insertInto('desk_orders').values({ account_id: accountId, item: request.body.item, placed_at: new Date() }).executeTakeFirstOrThrow()
      await redis.incr(`desk:orders:${accountId}`)
      return { id: Number(insertId) }
    })
    routes.get('/crash', async () => { throw new Error('a secret of the database') })
    routes.get('/live', { websocket: true }, (socket) => {
      socket.on('message', (data: Buffer) => { socket.send(`live: ${data.toString()}`) })
    })
  })
  return app
}
