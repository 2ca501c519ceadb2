import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { BROADCAST_CHANNEL } from '../../lib/channel-names.js'
import { OptionError } from '../../lib/errors.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { Resync } from '../../lib/plugin-kit/resync.js'
import { ms, readSettings } from '../../lib/settings.js'
import { createApi, type ChannelsApi } from './api.js'
import { Screening, type BeforePublish } from './before-publish.js'
import { CustomEvents } from './custom-events.js'
import { channelDecisions } from './decisions.js'
import type { CustomEventMap } from './event-types.js'
import { frames } from './frames.js'
import { Members, type MembersOption } from './members.js'
import { Messages } from './messages.js'
import { Outgoing } from './outgoing.js'
import { sendWaiting } from './pending.js'
import { retentionOf, type Retention } from './retention.js'
import { routes } from './routes.js'
import { SendingLimits } from './sending-limits.js'
import { Subscriptions } from './subscriptions.js'

const ChannelsSettings = Type.Object({
  maxChannelsPerConnection: Type.Integer({ default: 100, minimum: 0, description: 'Channels of one connection, besides its automatic ones; 0: no limit' }),
  messagesPerMinute: Type.Integer({ default: 3000, minimum: 0, description: 'Durable events of one user per minute, frames and REST together; 0: no limit' }),
  recipientsPerMinute: Type.Integer({ default: 10_000, minimum: 0, description: 'Recipients of the notifications of one user per minute; a notification that exceeds it is refused as a whole. 0: no limit' }),
  waitingAfter: ms('Age of an unconfirmed direct message or notification at which `waiting` is emitted if its recipient is away', 10_000, { minimum: 0 }),
  maxPending: Type.Integer({ default: 1000, minimum: 0, description: 'Unconfirmed events kept for one recipient; beyond it, the oldest events of the sender who has the most waiting fail. 0: no limit' })
})

/** Options of the channels plugin; every one has a default. */
export interface ChannelsOptions extends Partial<Static<typeof ChannelsSettings>> {
  /** Custom events, by name: `{ 'order:shipped': { data: Type.Object({ … }), durable, direction } }`. */
  events?: CustomEventMap
  /** Called with each durable or custom event of a client before it is stored or sent; not with events of host code. */
  beforePublish?: BeforePublish
  /**
   * Channels whose members are known. With `'list'`, subscribers are sent who joins and leaves; with `'count'`, the number of
   * members. By default, no channels.
   */
  members?: MembersOption
  /**
   * The days for which an event is kept, stored with it. `null`: forever; `undefined`: `retentionDays`, or forever if it is a message
   * and the conversations plugin is registered. Must return at once, for any number of events.
   */
  retention?: Retention
}

export type { ChannelMembersPage, ChannelsApi } from './api.js'
export type { MembersOption } from './members.js'
export type { Retention } from './retention.js'
export type { BeforePublish, Publication } from './before-publish.js'
export { defineEvents, type CustomEvent, type CustomEventMap, type HostEvents, type ReceivedEvents, type SentEvents } from './event-types.js'

declare module '../../lib/realtime.js' {
  interface RealtimeParts {
    channels: ChannelsApi
  }
}

async function channelsPlugin (fastify: FastifyInstance, options: ChannelsOptions): Promise<void> {
  const internals = internalsFor(fastify, 'channels')
  const settings = readSettings(ChannelsSettings, options, { of: 'channels', besides: ['events', 'beforePublish', 'members', 'retention'] })
  const { events = {}, beforePublish, retention } = options
  const members = new Members(internals, options.members, fastify.log)
  const subscriptions = new Subscriptions(internals, members, settings.maxChannelsPerConnection === 0 ? Infinity : settings.maxChannelsPerConnection, fastify.log)
  if (beforePublish !== undefined && typeof beforePublish !== 'function') throw new OptionError('beforePublish', 'must be a function')
  const screening = new Screening(internals.access, beforePublish, fastify.log)
  internals.eventLog.pendingLimit.max = settings.maxPending
  internals.eventLog.sweeper.waitingAfter = settings.waitingAfter
  if (retention !== undefined && typeof retention !== 'function') throw new OptionError('retention', 'must be a function')
  internals.eventLog.rows.retentionOf = retentionOf(internals, retention)
  const limits = new SendingLimits(internals, settings)
  internals.screening = {
    screen: (...args) => screening.screen(...args),
    count: (identity) => limits.message(identity)
  }
  const messages = new Messages(internals, screening, limits)

  if (typeof events !== 'object' || events === null) throw new OptionError('events', 'must be an object: event name → { data, durable, direction }')
  const customEvents = new CustomEvents(internals, messages, screening, events)

  internals.defaultChannels.add(BROADCAST_CHANNEL)
  fastify.realtime.channels = createApi(internals, messages, members, new Outgoing(internals, customEvents))
  frames(internals.frames, subscriptions, messages)
  sendWaiting(internals, fastify.log)
  internals.streamSubscriptions = subscriptions
  channelDecisions(internals, members, fastify.log)
  internals.metrics.rooms = () => members.size
  const resync = new Resync(async () => { await members.resync() }, internals.settings.presenceLease, fastify.log)
  internals.bus.on('reconnected', () => { resync.begin() })
  internals.onBeforeClose(async () => {
    resync.close()
    members.close()
  })
  await restScope(fastify, internals, (scope) => { routes(scope, internals, subscriptions, messages, members) })
}

export default fp(channelsPlugin, { name: 'realtime-channels', fastify: '5.x' })
