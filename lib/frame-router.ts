import type { Static, TObject, TSchema } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import type { ValueError } from '@sinclair/typebox/errors'
import type { MaybePromise } from './async/maybe-promise.js'
import type { LocalConnection } from './delivery/connection.js'
import { RealtimeError } from './errors.js'
import { withIds } from './id-schemas.js'
import type { Caller, Identity } from './identity.js'
import type { IdKind } from './ids.js'
import { eventsOf, type ClientEventSchemas, type EventDescription, type ServerEventSchemas } from './wire/protocol.js'

/** What a frame handler is given: who, and the connection it came on. */
export interface FrameContext extends Caller {
  connectionId: string
  connection: LocalConnection
  /** The frame has an id: the answer goes out as its ack. */
  asked: boolean
}

/**
 * What a handler answers. `later` lets the next frames of the connection begin while this one is being committed; the
 * replies still leave in order.
 */
export interface FrameResult<Ack> {
  ack: Ack | { later: Promise<Ack> }
  /** The event in which the ack's data go out when the frame had no id; without it success is silent. */
  replyEvent?: string
  /** Runs right after the reply was written. */
  afterReply?: () => void
}

export interface FrameDefinition<Data extends TObject, Ack extends TSchema> {
  event: string
  data: Data
  ack: Ack
  /** Begins, as soon as the frame came, what need not wait for the frames before it. */
  prefetch? (identity: Identity, data: Static<Data>): void
  handle (context: FrameContext, data: Static<Data>): MaybePromise<FrameResult<Static<Ack>>>
}

export interface Route {
  check: TypeCheck<TObject>
  prefetch: ((identity: Identity, data: unknown) => void) | null
  handle (context: FrameContext, data: unknown): MaybePromise<FrameResult<unknown>>
}

/** Event name → schema and handler. Plugins add theirs; connections/ feeds the frames in. */
export class FrameRouter {
  readonly #routes = new Map<string, Route>()
  readonly #catalogue: EventDescription[] = []
  readonly #ids: IdKind

  /** Shows and checks ids of this kind, whatever the schemas were written for. */
  constructor (ids: IdKind) {
    this.#ids = ids
  }

  /** Adds an event that clients send. */
  on<Data extends TObject, Ack extends TSchema> (definition: FrameDefinition<Data, Ack>): void {
    const { event, data, ack, prefetch, handle } = withIds(definition, this.#ids)
    if (this.#routes.has(event)) throw new Error(`the event ${event} is defined twice`)
    const check = TypeCompiler.Compile(data)
    // Checked right before: the handler gets what its schema says.
    this.#routes.set(event, {
      check,
      prefetch: prefetch === undefined ? null : (identity, value) => { prefetch(identity, value as Static<Data>) },
      handle: (context, value) => handle(context, value as Static<Data>)
    })
    this.#catalogue.push({ event, direction: 'client', data, ack })
  }

  /** Describes events that the server sends, and events of clients that are handled elsewhere. */
  describe (events: { client?: ClientEventSchemas, server?: ServerEventSchemas }): void {
    this.#catalogue.push(...eventsOf(withIds(events, this.#ids)))
  }

  /** Every event of the registered plugins. */
  get catalogue (): readonly EventDescription[] {
    return this.#catalogue
  }

  /** A valid frame has come, and waits for those before it. */
  prefetch (identity: Identity, event: string, data: unknown): void {
    const route = this.#routes.get(event)
    if (route !== undefined && route.prefetch !== null && route.check.Check(data)) route.prefetch(identity, data)
  }

  /** Throws `RT_INVALID_FRAME` for an unknown event, `RT_INVALID_DATA` naming the field that breaks the schema. */
  find (event: string, data: unknown): Route {
    const route = this.#routes.get(event)
    if (route === undefined) throw new RealtimeError('RT_INVALID_FRAME', `Unknown event ${JSON.stringify(event.slice(0, 50))}`)
    if (!route.check.Check(data)) throw invalidData(route.check.Errors(data).First())
    return route
  }
}

/** Names the field, never repeats its value. */
export function invalidData (error: ValueError | undefined): RealtimeError {
  const field = error?.path.slice(1).replaceAll('/', '.') ?? ''
  return new RealtimeError('RT_INVALID_DATA', `${field === '' ? 'data' : field}: ${error?.message ?? 'not valid'}`)
}
