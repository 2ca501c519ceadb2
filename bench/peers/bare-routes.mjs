// Bare Fastify routes that verify the JWT and answer the bytes they are told: what REST costs at least.
import { createVerifier } from 'fast-jwt'
import Fastify from 'fastify'

const verify = createVerifier({ key: process.env.JWT_SECRET })
const app = Fastify()
app.addHook('onRequest', async (request) => { request.user = verify(request.headers.authorization.slice(7)) })
const answers = JSON.parse(process.env.ANSWERS)
for (const { method, path, body } of answers) {
  app.route({ method, url: path, handler: async (_request, reply) => reply.type('application/json; charset=utf-8').send(body) })
}
await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`listening on ${app.server.address().port}`)
