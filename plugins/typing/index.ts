import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { OptionError } from '../../lib/errors.js'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { readSettings } from '../../lib/settings.js'
import { frames } from './frames.js'
import { routes } from './routes.js'
import { TypingStore } from './store.js'
import { TypingRules, type Participants } from './typing.js'

const TypingNumbers = Type.Object({
  signsPerMinute: Type.Integer({ default: 60, minimum: 0, description: 'Typing signs of one user, REST and frames together; 0: no limit' }),
  expiry: Type.Integer({ default: 30_000, minimum: 1000, maximum: 3600_000, description: 'Typing ends this long after the last sign, in milliseconds' })
})

/** Options of the typing plugin; every one has a default. */
export interface TypingOptions extends Partial<Static<typeof TypingNumbers>> {
  /** The users of a conversation; absent: who subscribed to `conversation.{conversationId}`. */
  participants?: Participants
}

/** `fastify.realtime.typing` */
export interface TypingApi {
  /** Who types in a conversation now. */
  in (tenantId: Id, conversationId: string): Promise<Array<{ user_id: Id, user_name: string | null, started_at: string }>>
}

declare module '../../lib/realtime.js' {
  interface RealtimeParts {
    typing: TypingApi
  }
}

async function typingPlugin (fastify: FastifyInstance, options: TypingOptions): Promise<void> {
  const internals = internalsFor(fastify, 'typing')
  const { signsPerMinute, expiry: timeout } = readSettings(TypingNumbers, options, { of: 'typing', besides: ['participants'] })
  const { participants } = options
  if (participants !== undefined && typeof participants !== 'function') throw new OptionError('participants', 'must be a function')
  const rate = { max: signsPerMinute, window: 60_000 }
  const store = new TypingStore(internals.database, internals.clock, fastify.log)
  const typing = new TypingRules(internals, store, { rate, timeout, participants }, fastify.log)

  fastify.realtime.typing = { in: async (tenantId, conversationId) => await typing.users(tenantId, conversationId) }
  frames(internals.frames, typing)
  await restScope(fastify, internals, (scope) => { routes(scope, typing, rate) })
  internals.onBeforeClose(async () => {
    await typing.whenStopsSent()
    await store.close()
  })
}

export default fp(typingPlugin, { name: 'realtime-typing', fastify: '5.x' })
