import { Kind, Type, type Static, type TProperties, type TSchema } from '@sinclair/typebox'
import { isReserved, resolveAlias } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { OptionError, RealtimeError } from '../../lib/errors.js'
import { Deferred, type FrameContext, type FrameResult } from '../../lib/frame-router.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { requireKnown } from '../../lib/option-names.js'
import { Accepted, Channel, DedupeId, MessageId, SenderId, Timestamp } from '../../lib/schemas.js'
import { SchemaCompiler, type CompiledSchema, type ObjectSchema, type Problem } from '../../lib/wire/json-schema.js'
import type { Screening } from './before-publish.js'
import type { CustomEvent, CustomEventMap } from './event-types.js'
import type { Messages } from './messages.js'

const NAME = /^[a-z][a-z0-9_-]*(:[a-z0-9_-]+)+$/
const ADDED = ['channel', 'userId', 'messageId', 'dedupeId', 'timestamp']

const Sent = Type.Object({ channel: Channel, dedupeId: Type.Optional(DedupeId) })
const EphemeralAck = Type.Object({ timestamp: Timestamp })

interface Declared extends Required<CustomEvent> { schema: CompiledSchema }

/** The custom events that the host declared: `events: { 'order:shipped': { data: Type.Object({ … }) } }`. */
export class CustomEvents {
  readonly #internals: Internals
  readonly #messages: Messages
  readonly #screening: Screening
  readonly #declared = new Map<string, Declared>()

  /** Throws an {@link OptionError} that names an invalid event. */
  constructor (internals: Internals, messages: Messages, screening: Screening, events: CustomEventMap) {
    this.#internals = internals
    this.#messages = messages
    this.#screening = screening
    const compiler = new SchemaCompiler()
    for (const [name, event] of Object.entries(events)) {
      const declared = readEvent(name, event, compiler)
      this.#declared.set(name, declared)
      this.#describe(name, declared)
      if (declared.direction !== 'server') this.#accept(name, declared)
    }
  }

  /**
   * The data of an event of host code, as clients get them; null for an undeclared event. Throws `RT_INVALID_DATA`, and an error
   * if the direction or durability of the event differs.
   */
  outgoing (event: string, durable: boolean, { channel, userId, data }: { channel: string, userId: Id, data: Record<string, unknown> }): Record<string, unknown> | null {
    const declared = this.#declared.get(event)
    if (declared === undefined) return null
    if (declared.direction === 'client') throw new Error(`${event} is declared for clients alone: direction "both" lets host code send it`)
    if (declared.durable !== durable) throw new Error(`${event} is declared ${durable ? 'ephemeral: use emit' : 'durable: use publish'}`)
    const problem = declared.schema.problem(data)
    if (problem !== null) throw invalid(problem)
    return { userId, channel, ...data }
  }

  #describe (name: string, { data, durable }: Declared): void {
    this.#internals.frames.describe({
      server: { [name]: described(data, { ...durable ? { messageId: MessageId } : {}, userId: SenderId, channel: Channel, timestamp: Timestamp }) }
    })
  }

  #accept (name: string, declared: Declared): void {
    this.#internals.frames.on({
      event: name,
      data: described(declared.data, Sent.properties),
      ack: declared.durable ? Accepted : EphemeralAck,
      // This schema contains the names of the fields; the host's own schema is checked below.
      handle: async (context, data) => await this.#handle(name, declared, context, data as Static<typeof Sent>)
    })
  }

  async #handle (name: string, { schema, durable }: Declared, context: FrameContext, sent: Static<typeof Sent>): Promise<FrameResult<Static<typeof Accepted> | Static<typeof EphemeralAck>>> {
    const { identity: { tenantId, userId }, connectionId } = context
    // Fields that are not in the schema are not passed on; fields that the server adds, not even if the schema allows any field.
    const said = schema.clean(Object.fromEntries(Object.entries(sent).filter(([field]) => !ADDED.includes(field))))
    const problem = schema.problem(said)
    if (problem !== null) throw invalid(problem)
    const channel = resolveAlias(sent.channel, userId)
    if (isReserved(channel)) throw new RealtimeError('RT_FORBIDDEN')
    await this.#internals.access.require(context, { action: 'publish', event: name, channel, data: said })
    const own = await this.#screening.screen(context, name, channel, said, (data) => schema.problem(data)?.field ?? null)
    const data = { userId, channel, ...own }
    if (durable) {
      await this.#messages.count(context.identity)
      return { ack: new Deferred(this.#messages.store({ tenantId, userId, channel, type: name, data, excludeConnectionId: connectionId, dedupeId: sent.dedupeId })) }
    }
    const timestamp = toIso(this.#internals.clock.now())
    this.#internals.emit({ tenantId, channel, event: name, data: { ...data, timestamp }, excludeConnectionId: connectionId })
    return { ack: { timestamp } }
  }
}

const invalid = ({ field, message }: Problem): RealtimeError => new RealtimeError('RT_INVALID_DATA', `${field === '' ? 'data' : field}: ${message}`)

/** The schema of the data of a frame: the host's fields, and those that the server adds. */
function described (data: ObjectSchema, added: TProperties): ReturnType<typeof Type.Object> {
  const { type: _type, properties = {}, required = [], additionalProperties: _closed, $id: _id, $schema: _schema, ...rest } =
    data as ObjectSchema & { properties?: Record<string, TSchema>, required?: readonly string[], additionalProperties?: unknown, $id?: unknown, $schema?: unknown }
  const own = Object.fromEntries(Object.entries(properties).map(([name, schema]) => {
    // For documentation only: the host's schema is checked separately, because TypeBox supports neither plain schemas nor their formats.
    const field = Type.Unsafe({ ...schema, [Kind]: 'Any' })
    return [name, required.includes(name) ? field : Type.Optional(field)]
  }))
  return Type.Object({ ...own, ...added }, { ...rest })
}

function readEvent (name: string, event: CustomEvent, compiler: SchemaCompiler): Declared {
  const wrong = (problem: string, cause?: unknown): OptionError => new OptionError(`events.${name}`, problem, cause)
  if (!NAME.test(name) || name.length > 50) throw wrong('is no name: lower case, at most 50 characters, with a colon, as in order:shipped')
  if (typeof event !== 'object' || event === null) throw wrong('must be an object: { data, durable, direction }')
  requireKnown(event, ['data', 'durable', 'direction'], { of: 'an event', path: `events.${name}.` })
  const { data, durable = true, direction = 'server' } = event
  if (typeof data !== 'object' || data === null || data.type !== 'object' || isOfAnotherLibrary(data)) {
    throw wrong("needs data, the JSON Schema of an object: Type.Object({ … }), { type: 'object', properties: { … } }, or z.toJSONSchema(schema) of a Zod schema")
  }
  const added = ADDED.find((field) => field in ((data as { properties?: object }).properties ?? {}))
  if (added !== undefined) throw wrong(`may not declare ${added}: the server adds it`)
  if (typeof durable !== 'boolean') throw wrong('has a durable that is neither true nor false')
  if (!['server', 'client', 'both'].includes(direction)) throw wrong('has a direction that is none of server, client, both')
  try {
    return { data, durable, direction, schema: compiler.compile(data) }
  } catch (cause) {
    throw wrong(`has data that are not a JSON Schema which can be checked: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
}

/** Schemas of Zod and Valibot also have `type: 'object'`, but would accept everything. A JSON Schema contains no functions. */
const isOfAnotherLibrary = (data: object): boolean => '_zod' in data || Object.values(data).some((value) => typeof value === 'function')
