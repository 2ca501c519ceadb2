import { Type, type TObject, type TProperties } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import { BROADCAST_CHANNEL, privateOwner } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { requireMessageData } from '../../lib/wire/data-size.js'
import { requireChannel, requireDedupeId, requireId, requireSender, wrongArgument } from '../../lib/wire/host-arguments.js'
import type { CustomEvents } from './custom-events.js'

/** An event that host code sends. */
export interface FromHostCode {
  tenantId: Id
  userId: Id
  channel: string
  event: string
  data: Record<string, unknown>
  dedupeId?: string | undefined
}

/** Built-in durable events, and the channels on which clients expect them. */
const STORED: Record<string, 'any' | 'private' | 'broadcast'> = {
  'message:group': 'any', 'message:direct': 'private', 'notification:received': 'private', 'broadcast:message': 'broadcast'
}
const MESSAGES: Record<string, true> = { 'message:group': true, 'message:direct': true }
/** Replies to one connection: on a channel they would confuse every client. */
const REPLIES = ['ack', 'error', 'authenticated', 'pong', 'subscribed', 'unsubscribed', 'token:expiring']

/**
 * Completes events of host code. Built-in events get the fields that clients rely on, and are checked against the schemas of
 * the protocol; custom events are checked against their declaration.
 */
export class Outgoing {
  readonly #internals: Internals
  readonly #customEvents: CustomEvents
  readonly #checks = new Map<string, TypeCheck<TObject>>()
  /** The server's events of the catalogue; null for an event that only clients send. */
  readonly #served = new Map<string, TObject | null>()
  #indexed = 0

  constructor (internals: Internals, customEvents: CustomEvents) {
    this.#internals = internals
    this.#customEvents = customEvents
  }

  /** The data of a durable event, without its id and time. Throws `RT_INVALID_DATA`, which names the argument. */
  stored (sent: FromHostCode): Record<string, unknown> {
    this.#require(sent)
    const own = this.#customEvents.outgoing(sent.event, true, sent)
    if (own !== null) return own
    const on = STORED[sent.event]
    const schema = this.#schemaOf(sent.event)
    if (schema === null) return sent.data
    if (on === undefined) throw wrongArgument('event', `${sent.event} is not stored: send it with emit`)
    if (on === 'private' && privateOwner(sent.channel, this.#internals.ids) === null) throw wrongArgument('channel', `${sent.event} goes to one user, on private-user.{id}`)
    if (on === 'broadcast' && sent.channel !== BROADCAST_CHANNEL) throw wrongArgument('channel', `${sent.event} goes to everyone, on ${BROADCAST_CHANNEL}`)
    return this.#complete(schema, sent)
  }

  /** The data of an event for current subscribers only. Throws as `stored` does. */
  emitted (sent: FromHostCode): Record<string, unknown> {
    this.#require(sent)
    const timestamp = toIso(this.#internals.clock.now())
    const own = this.#customEvents.outgoing(sent.event, false, sent)
    if (own !== null) return { ...own, timestamp }
    const schema = this.#schemaOf(sent.event)
    if (schema === null) return sent.data
    if (sent.event in STORED) throw wrongArgument('event', `${sent.event} is stored before it is sent: use publish`)
    return { ...this.#complete(schema, sent), timestamp }
  }

  #require ({ tenantId, userId, channel, event, data, dedupeId }: FromHostCode): void {
    const { ids } = this.#internals
    requireId(ids, tenantId, 'tenantId')
    requireSender(ids, userId, 'userId')
    requireChannel(ids, channel)
    if (typeof event !== 'string' || event.length === 0 || event.length > 50) throw wrongArgument('event', 'is not a name of 1 to 50 characters')
    if (typeof data !== 'object' || data === null || Array.isArray(data)) throw wrongArgument('data', 'is not an object')
    if (dedupeId !== undefined) requireDedupeId(dedupeId, 'dedupeId')
  }

  /** Null for an event that is not in the catalogue. */
  #schemaOf (event: string): TObject | null {
    if (REPLIES.includes(event)) throw wrongArgument('event', `${event} is a reply to one connection: it cannot be sent to a channel`)
    const { catalogue } = this.#internals.frames
    // Plugins may have been registered in the meantime.
    if (this.#indexed < catalogue.length) {
      for (const { event, direction, data } of catalogue) {
        if (direction === 'server') this.#served.set(event, data as TObject)
        else if (!this.#served.has(event)) this.#served.set(event, null)
      }
      this.#indexed = catalogue.length
    }
    const schema = this.#served.get(event)
    if (schema === null) throw wrongArgument('event', `${event} is sent by clients only: no client listens to it`)
    return schema ?? null
  }

  #complete (schema: TObject, { userId, channel, event, data: given }: FromHostCode): Record<string, unknown> {
    const { ids } = this.#internals
    const isStored = event in STORED
    const data = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
    // The log adds the time of every event, and the id of a durable one.
    const { timestamp: _time, ...properties } = schema.properties
    const fields = Object.fromEntries(Object.entries(properties).filter(([name]) => !(isStored && name === 'messageId')))
    const unknown = Object.keys(data).find((name) => !(name in fields))
    if (unknown !== undefined) throw wrongArgument(`data.${unknown}`, `is not a field of ${event}`)
    // The sender of a durable event is the user of its row. Presence and typing belong to the user in their data.
    const sender = isStored ? { userId, senderId: userId } : userId === ids.system ? {} : { userId }
    for (const [name, value] of Object.entries(sender)) {
      if (data[name] !== undefined && data[name] !== value) throw wrongArgument(`data.${name}`, `is another user than the event’s userId, ${value}`)
    }
    const known = { channel, recipientId: privateOwner(channel, ids), messageType: 'info', icon: null, tag: null, ...data, ...sender }
    const complete = Object.fromEntries(Object.entries(known).filter(([name]) => name in fields))
    const check = this.#checkOf(event, fields)
    if (!check.Check(complete)) {
      const error = check.Errors(complete).First()
      throw wrongArgument(`data.${error?.path.slice(1).replaceAll('/', '.') ?? ''}`, error?.message.toLowerCase() ?? 'not valid')
    }
    if (event in MESSAGES) requireMessageData(complete.data as object | undefined)
    return complete
  }

  #checkOf (event: string, fields: TProperties): TypeCheck<TObject> {
    const known = this.#checks.get(event) ?? TypeCompiler.Compile(Type.Object(fields))
    this.#checks.set(event, known)
    return known
  }
}
