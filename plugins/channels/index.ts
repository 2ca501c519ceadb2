import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessResult } from '../../lib/access/log.js'
import { BROADCAST_CHANNEL, privateChannel } from '../../lib/channels.js'
import type { Realtime } from '../../lib/core.js'
import type { Executor } from '../../lib/database/dialect.js'
import type { Receipt } from '../../lib/event-log/index.js'
import { readSettings } from '../../lib/options.js'
import { restScope } from '../../lib/rest.js'
import { toIso } from '../../lib/clock.js'
import { OptionError } from '../../lib/errors.js'
import { Screening, type BeforePublish } from './before-publish.js'
import { CustomEvents, type CustomEvent } from './custom-events.js'
import { channelDecisions } from './decisions.js'
import { frames } from './frames.js'
import { Messages } from './messages.js'
import { sendPending } from './pending.js'
import { routes } from './routes.js'
import type { Stored } from './schemas.js'
import { Subscriptions } from './subscriptions.js'

const ChannelsSettings = Type.Object({
  maxChannelsPerConnection: Type.Integer({ default: 100, minimum: 1, description: 'Besides those subscribed by the suite' })
})

/** Options of the channels plugin; every one has a default. */
export interface ChannelsOptions extends Partial<Static<typeof ChannelsSettings>> {
  /** Events of the host's own, by name: `{ 'order:shipped': { data: Type.Object({ … }), durable, direction } }`. */
  events?: Record<string, CustomEvent>
  /** Looks at each durable or custom event of a client before it is stored or sent; host code is not asked. */
  beforePublish?: BeforePublish
}

/**
 * What the host's own events carry, for typed `publish` and `tell`, by declaration merging:
 * `declare module 'fastify-realtime' { interface HostEvents { 'order:shipped': { order: number } } }`.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the host
export interface HostEvents {}

/** The data of an event: as the host declared them, else any. */
type DataOf<Name extends string> = Name extends keyof HostEvents ? HostEvents[Name] & Record<string, unknown> : Record<string, unknown>

interface FromHost {
  tenantId: number
  /** The user in whose name it is sent; absent: the system, 0. */
  userId?: number
  /** The same key from the same user within 5 minutes answers the first result. */
  dedupeId?: string
}

/** `fastify.realtime.channels`: what clients can send, without asking `authorize`; the host decides. */
export interface ChannelsApi {
  /**
   * Any event on any channel. Durable: stored, then told; resolves when it is stored. With a `transaction` of the host's own
   * (the same database) it is told within a second after the commit, and never after a rollback.
   */
  publish<Name extends string> (event: FromHost & { channel: string, event: Name, data: DataOf<Name>, transaction?: Executor }): Promise<Receipt>
  /** An event for whoever listens now: not stored, not recovered. */
  tell<Name extends string> (event: { tenantId: number, channel: string, event: Name, data: DataOf<Name> }): void
  /** A direct message. */
  message (message: FromHost & { recipientId: number, message: string, conversationId: string }): Promise<Receipt>
  /** One notification for each recipient. */
  notify (notification: FromHost & {
    recipientIds: number[], title: string, body: string, icon?: string | null, tag?: string | null
  }): Promise<Receipt[]>
  /** Subscribes every live connection of a user, on every node; each gets `subscribed`. `authorize` is not asked. */
  join (tenantId: number, userId: number, channel: string): Promise<AccessResult>
  /** Takes every live connection of a user out of a channel, on every node; each gets `unsubscribed` with the reason `revoked`. */
  kick (tenantId: number, userId: number, channel: string): Promise<AccessResult>
  /** A message to everyone in the tenant. */
  broadcast (broadcast: FromHost & { message: string, messageType?: string }): Promise<Receipt>
}

declare module '../../lib/core.js' {
  interface RealtimeParts {
    channels: ChannelsApi
  }
}

async function channelsPlugin (fastify: FastifyInstance, options: ChannelsOptions): Promise<void> {
  const { maxChannelsPerConnection } = readSettings(ChannelsSettings, options)
  const { events = {}, beforePublish } = options
  const { realtime } = fastify
  const subscriptions = new Subscriptions(realtime, maxChannelsPerConnection)
  if (beforePublish !== undefined && typeof beforePublish !== 'function') throw new OptionError('beforePublish', 'must be a function')
  const screening = new Screening(realtime.access, beforePublish, fastify.log)
  const messages = new Messages(realtime, screening)

  if (typeof events !== 'object' || events === null) throw new OptionError('events', 'must be an object: event name → { data, durable, direction }')
  const customEvents = new CustomEvents(realtime, messages, screening, events)

  realtime.automaticChannels.add(BROADCAST_CHANNEL)
  realtime.channels = createApi(messages, customEvents, realtime)
  frames(realtime.frames, subscriptions, messages)
  sendPending(realtime, fastify.log)
  channelDecisions(realtime, fastify.log)
  await restScope(fastify, realtime, (scope) => { routes(scope, realtime, subscriptions, messages) })
}

function createApi (messages: Messages, events: CustomEvents, { tell, eventLog, clock, accessLog }: Realtime): ChannelsApi {
  return {
    join: async (tenantId, userId, channel) => await accessLog.record({ kind: 'join', tenantId, userId, channel }),
    kick: async (tenantId, userId, channel) => await accessLog.record({ kind: 'kick', tenantId, userId, channel }),
    publish: async ({ tenantId, userId = 0, channel, event, data, dedupeId, transaction }) => {
      const stored = { tenantId, userId, channel, type: event, data: events.outgoing(event, true, { channel, userId, data }), dedupeId }
      return transaction === undefined
        ? await messages.store(stored)
        : await eventLog.appendWithin(transaction, stored)
    },
    tell: ({ tenantId, channel, event, data }) => {
      const outgoing = events.outgoing(event, false, { channel, userId: 0, data })
      tell({ tenantId, channel, event, data: outgoing === data ? data : { ...outgoing, timestamp: toIso(clock.now()) } })
    },
    message: async ({ tenantId, userId = 0, recipientId, message, conversationId, dedupeId }) => {
      const data: Stored<'message:direct'> = { senderId: userId, message, conversationId }
      return await messages.store({ tenantId, userId, channel: privateChannel(recipientId), type: 'message:direct', data, dedupeId })
    },
    notify: async ({ tenantId, userId = 0, ...notification }) => await messages.storeNotifications({ tenantId, userId }, notification),
    broadcast: async ({ tenantId, userId = 0, message, messageType = 'info', dedupeId }) => {
      const data: Stored<'broadcast:message'> = { message, messageType, senderId: userId }
      return await messages.store({ tenantId, userId, channel: BROADCAST_CHANNEL, type: 'broadcast:message', data, dedupeId })
    }
  }
}

export default fp(channelsPlugin, { name: 'realtime-channels', fastify: '5.x', dependencies: ['realtime'] })
