import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { Document } from './schemas.js'

const info = { title: 'fastify-realtime example host', version: '1.0.0' }

/** A route that asks for no credentials. */
export const open: { security: [] } = { security: [] }

/** OpenAPI at `/docs`, the socket's AsyncAPI at `/docs/asyncapi.json`. Registered before the routes, because earlier routes are not included. */
export async function documents (app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info,
      externalDocs: { url: '/docs/asyncapi.json', description: 'The socket, as AsyncAPI' },
      tags: [
        { name: 'connections', description: 'Who has which devices and tabs open' },
        { name: 'presence', description: 'Who is online, away, busy' },
        { name: 'typing', description: 'Who types where' },
        { name: 'channels', description: 'Subscriptions, messages, and missed events' },
        { name: 'conversations', description: 'History, unread messages, read marks, edits and deletes' },
        { name: 'messages', description: 'Durable events: a 202 comes after the commit' },
        { name: 'stats', description: 'Figures of a tenant' },
        { name: 'operators', description: 'List connected users; kick, close and ban: for operators of the host' },
        { name: 'host', description: 'The example host’s own' }
      ],
      // How people log in is the host's business, and so is its description; every route of fastify-realtime needs it.
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
      security: [{ bearer: [] }]
    }
  })
  await app.register(swaggerUi, { routePrefix: '/docs' })
  app.get('/docs/asyncapi.json', {
    schema: { ...open, tags: ['host'], summary: 'The socket as an AsyncAPI 3 document', response: { 200: Document } }
  }, async ({ host, protocol }) => app.realtime.asyncapi({
    ...info,
    server: { host, protocol: protocol === 'https' ? 'wss' : 'ws' }
  }))
}
