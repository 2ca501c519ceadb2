import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { OptionError } from '../../lib/errors.js'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { ms, readSettings } from '../../lib/settings.js'
import { frames } from './frames.js'
import { routes } from './routes.js'
import { typingPurge, TypingStore } from './store.js'
import { TypingRules, type Participants } from './typing.js'

const TypingNumbers = Type.Object({
  signsPerMinute: Type.Integer({ default: 60, minimum: 0, description: 'Typing updates of one user per minute, REST and frames together; 0: no limit' }),
  expiry: ms('Time after the last update until typing stops by itself', 30_000, { minimum: 1000, maximum: 3600_000 })
})

export type { Participants } from './typing.js'

/** Options of the typing plugin; every one has a default. */
export interface TypingOptions extends Partial<Static<typeof TypingNumbers>> {
  /**
   * Returns the ids of a conversation's users, to whom typing in it is sent. Absent: typing without `channel` and `recipient_id`
   * is sent to the subscribers of `conversation.{conversationId}`.
   */
  participants?: Participants
}

/** `app.realtime.typing` */
export interface TypingApi {
  /**
   * The users who type in a conversation now, names included where `resolveUsers` knows them; `startedAt` is ISO 8601, UTC.
   * Rejects with `RT_STORAGE_UNAVAILABLE` while Redis cannot be read.
   */
  list (tenantId: Id, conversationId: string): Promise<Array<{ userId: Id, userName: string | null, startedAt: string }>>
  /** @deprecated Use `list`. */
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
  const rate = { kind: 'typing', max: signsPerMinute, window: 60_000 }
  const store = new TypingStore(internals.database, internals.clock, fastify.log)
  const typing = new TypingRules(internals, store, { timeout, participants }, fastify.log)

  fastify.realtime.typing = {
    list: async (tenantId, conversationId) => (await typing.users(tenantId, conversationId))
      .map(({ user_id: userId, user_name: userName, started_at: startedAt }) => ({ userId, userName, startedAt })),
    in: async (tenantId, conversationId) => await typing.users(tenantId, conversationId)
  }
  internals.purges.push(typingPurge(internals.database.slow, internals.clock))
  frames(internals.frames, typing, rate)
  await restScope(fastify, internals, (scope) => { routes(scope, typing, rate) })
  internals.onBeforeClose(async () => {
    await typing.whenStopsSent()
    await store.close()
  })
}

export default fp(typingPlugin, { name: 'realtime-typing', fastify: '5.x' })
