import { Type, type Static, type TObject, type TProperties } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import { Value } from '@sinclair/typebox/value'
import { isReserved, resolveAlias } from '../../lib/channels.js'
import { toIso } from '../../lib/clock.js'
import type { Realtime } from '../../lib/core.js'
import { OptionError, RealtimeError } from '../../lib/errors.js'
import { invalidData, type FrameContext, type FrameResult } from '../../lib/frame-router.js'
import { Accepted, Channel, DedupeId, Id, Timestamp } from '../../lib/schemas.js'
import type { Screening } from './before-publish.js'
import type { Messages } from './messages.js'

/** An event of the host's own, validated, authorised, logged, recovered and described like the built-in ones. */
export interface CustomEvent {
  /** What it carries. `channel`, `userId`, `messageId`, `dedupeId` and `timestamp` are added by the suite. */
  data: TObject
  /** A row before anyone is told, replayed by `since`; default true. False: for whoever listens now. */
  durable?: boolean
  /** Who sends it: host code alone (`server`, the default), clients that may publish to the channel (`client`), or `both`. */
  direction?: 'server' | 'client' | 'both'
}

const NAME = /^[a-z][a-z0-9_-]*(:[a-z0-9_-]+)+$/
const ADDED = ['channel', 'userId', 'messageId', 'dedupeId', 'timestamp']

const Sent = Type.Object({ channel: Channel, dedupeId: Type.Optional(DedupeId) })
const Told = Type.Object({ timestamp: Timestamp })

type Declared = Required<CustomEvent> & { check: TypeCheck<TObject> }

/** The events that the host declared: `events: { 'order:shipped': { data: Type.Object({ … }) } }`. */
export class CustomEvents {
  readonly #realtime: Realtime
  readonly #messages: Messages
  readonly #screening: Screening
  readonly #declared = new Map<string, Declared>()

  /** Throws an {@link OptionError} that names the event which cannot work. */
  constructor (realtime: Realtime, messages: Messages, screening: Screening, events: Record<string, CustomEvent>) {
    this.#realtime = realtime
    this.#messages = messages
    this.#screening = screening
    for (const [name, event] of Object.entries(events)) {
      const declared = readEvent(name, event)
      this.#declared.set(name, declared)
      this.#describe(name, declared)
      if (declared.direction !== 'server') this.#accept(name, declared)
    }
  }

  /**
   * What host code sends, as clients get it; an event that was not declared passes as it is. Throws `RT_INVALID_DATA`, and
   * an error where the event is declared for something else.
   */
  outgoing (event: string, durable: boolean, { channel, userId, data }: { channel: string, userId: number, data: Record<string, unknown> }): Record<string, unknown> {
    const declared = this.#declared.get(event)
    if (declared === undefined) return data
    if (declared.direction === 'client') throw new Error(`${event} is declared for clients alone: direction "both" lets host code send it`)
    if (declared.durable !== durable) throw new Error(`${event} is declared ${durable ? 'ephemeral: use tell' : 'durable: use publish'}`)
    if (!declared.check.Check(data)) throw invalidData(declared.check.Errors(data).First())
    return { userId, channel, ...data }
  }

  #describe (name: string, { data, durable }: Declared): void {
    const added: TProperties = { userId: Type.Integer({ minimum: 0, description: '0: the host' }), channel: Channel, timestamp: Timestamp }
    this.#realtime.frames.describe({
      server: { [name]: Type.Object({ ...durable ? { messageId: Id } : {}, ...data.properties, ...added }) }
    })
  }

  #accept (name: string, declared: Declared): void {
    this.#realtime.frames.on({
      event: name,
      data: Type.Object({ ...declared.data.properties, ...Sent.properties }),
      ack: declared.durable ? Accepted : Told,
      handle: async (context, data) => await this.#handle(name, declared, context, data)
    })
  }

  async #handle (name: string, { data: schema, durable }: Declared, context: FrameContext, sent: Static<typeof Sent>): Promise<FrameResult<Static<typeof Accepted> | Static<typeof Told>>> {
    const { identity: { tenantId, userId }, connectionId } = context
    const channel = resolveAlias(sent.channel, userId)
    if (isReserved(channel)) throw new RealtimeError('RT_FORBIDDEN')
    // What the schema does not know is not passed on.
    const said = Value.Clean(Type.Object(schema.properties), structuredClone(sent)) as Record<string, unknown>
    await this.#realtime.access.require(context, { action: 'publish', event: name, channel, data: said })
    const own = await this.#screening.screen(context, name, channel, said, schema)
    const data = { userId, channel, ...own }
    if (durable) {
      return { ack: { later: this.#messages.store({ tenantId, userId, channel, type: name, data, except: connectionId, dedupeId: sent.dedupeId }) } }
    }
    const timestamp = toIso(this.#realtime.clock.now())
    this.#realtime.tell({ tenantId, channel, event: name, data: { ...data, timestamp }, except: connectionId })
    return { ack: { timestamp } }
  }
}

function readEvent (name: string, event: CustomEvent): Declared {
  const wrong = (problem: string): OptionError => new OptionError(`events.${name}`, problem)
  if (!NAME.test(name) || name.length > 50) throw wrong('is no name: lower case, at most 50 characters, with a colon, as in order:shipped')
  if (event?.data?.type !== 'object') throw wrong('needs data: a TypeBox object, Type.Object({ … })')
  const added = ADDED.find((field) => field in event.data.properties)
  if (added !== undefined) throw wrong(`may not declare ${added}: the suite adds it`)
  const { durable = true, direction = 'server' } = event
  if (typeof durable !== 'boolean') throw wrong('has a durable that is neither true nor false')
  if (!['server', 'client', 'both'].includes(direction)) throw wrong('has a direction that is none of server, client, both')
  return { data: event.data, durable, direction, check: TypeCompiler.Compile(event.data) }
}
