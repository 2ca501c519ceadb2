// Bare Fastify routes that verify the JWT and answer the bytes they are told: what REST costs at least. With GUARDS they
// also have CORS, a rate limit per user and a schema for the body, as every route of the suite does.
import cors from '@fastify/cors'
import rateLimit from '@fastify/rate-limit'
import { createVerifier } from 'fast-jwt'
import Fastify from 'fastify'

const verify = createVerifier({ key: process.env.JWT_SECRET })
const app = Fastify()
const guarded = process.env.GUARDS === '1'
if (guarded) await app.register(cors, { origin: ['http://127.0.0.1'], credentials: true })
app.addHook('onRequest', async (request) => { request.user = verify(request.headers.authorization.slice(7)) })
if (guarded) await app.register(rateLimit, { max: 1e9, timeWindow: 60_000, keyGenerator: (request) => request.user.sub })
const answers = JSON.parse(process.env.ANSWERS)
const schema = guarded ? { schema: { body: { type: 'object', additionalProperties: true, properties: { status: { type: 'string' } } } } } : {}
for (const { method, path, body } of answers) {
  app.route({ method, url: path, ...method === 'POST' ? schema : {}, handler: async (_request, reply) => reply.type('application/json; charset=utf-8').send(body) })
}
await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`listening on ${app.server.address().port}`)
