import type { Static, TObject, TSchema } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import type { ValueError } from '@sinclair/typebox/errors'
import type { Rate, RateCounters } from './access/rate-counters.js'
import { thenMaybe, type MaybePromise } from './async/maybe-promise.js'
import type { LocalConnection } from './delivery/connection.js'
import { RealtimeError } from './errors.js'
import { withIds } from './id-schemas.js'
import type { Caller } from './identity.js'
import type { IdKind } from './ids.js'
import { rateKey } from './keys.js'
import { eventsOf, type ClientEventSchemas, type EventDescription, type ServerEventSchemas } from './wire/protocol.js'

/** The caller of a frame handler, and the connection on which the frame arrived. */
export interface FrameContext extends Caller {
  connectionId: string
  connection: LocalConnection
  /** The result of the definition's `prefetch` for this frame; undefined if it did not run. */
  prefetched?: unknown
}

/**
 * A result that is available later, after a commit. The next frames of the connection are handled meanwhile; the replies keep
 * the order of the frames. Unlike a promise it can pass through async functions without being awaited.
 */
export class Deferred<T> {
  readonly value: Promise<T>

  constructor (value: Promise<T>) {
    this.value = value
  }
}

/** The result of a frame handler. */
export interface FrameResult<Ack> {
  ack: Ack | Deferred<Ack>
  /** The event with which the ack's data are sent if the frame had no id. Without `replyEvent`, such a frame gets no reply. */
  replyEvent?: string
  /** Runs right after the reply was written. */
  afterReply?: () => void
}

/** A rate per user: frames and REST requests of one `kind` count together. */
export interface UserRate extends Rate { kind: string }

export interface FrameDefinition<Data extends TObject, Ack extends TSchema> {
  event: string
  data: Data
  ack: Ack
  /** Checked before `handle`; beyond it the reply is `RT_RATE_LIMITED`. */
  rate?: UserRate
  /** Starts work that need not wait for the frames before this one. Called when the frame arrives. */
  prefetch? (caller: Caller, data: Static<Data>): unknown
  /** May return its result synchronously, without a promise per frame (bench rows "fan-out under load", "direct messages, durable"). */
  handle (context: FrameContext, data: Static<Data>): MaybePromise<FrameResult<Static<Ack>>>
}

export interface Route {
  check: TypeCheck<TObject>
  prefetch: ((caller: Caller, data: unknown) => unknown) | null
  handle (context: FrameContext, data: unknown): MaybePromise<FrameResult<unknown>>
}

/** Schemas and handlers by event name. Plugins register theirs; the connections plugin dispatches frames to them. */
export class FrameRouter {
  readonly #routes = new Map<string, Route>()
  readonly #catalogue: EventDescription[] = []
  readonly #rates: Pick<RateCounters, 'take'>
  readonly #ids: IdKind

  /** Validates and documents ids of the kind `ids`, independent of how the schemas are written. */
  constructor (rates: Pick<RateCounters, 'take'>, ids: IdKind) {
    this.#rates = rates
    this.#ids = ids
  }

  /** Registers an event that clients send. */
  on<Data extends TObject, Ack extends TSchema> (definition: FrameDefinition<Data, Ack>): void {
    const { event, data, ack, rate, prefetch, handle } = withIds(definition, this.#ids)
    if (this.#routes.has(event)) throw new Error(`the event ${event} is defined twice`)
    const check = TypeCompiler.Compile(data)
    // `find` has checked the value against the schema.
    const run: Route['handle'] = (context, value) => handle(context, value as Static<Data>)
    this.#routes.set(event, {
      check,
      prefetch: prefetch === undefined ? null : (caller, value) => prefetch(caller, value as Static<Data>),
      handle: rate === undefined
        ? run
        : (context, value) => thenMaybe(this.#rates.take(rateKey(rate.kind, context.identity), rate), () => run(context, value))
    })
    this.#catalogue.push({ event, direction: 'client', data, ack })
  }

  /** Documents events that the server sends, and events of clients that have another handler. */
  describe (events: { client?: ClientEventSchemas, server?: ServerEventSchemas }): void {
    this.#catalogue.push(...eventsOf(withIds(events, this.#ids)))
  }

  /** Every event of the registered plugins. */
  get catalogue (): readonly EventDescription[] {
    return this.#catalogue
  }

  /** Calls `prefetch` of a frame that waits for those before it. The result belongs to this frame alone. */
  prefetch (caller: Caller, event: string, data: unknown): unknown {
    const route = this.#routes.get(event)
    return route !== undefined && route.prefetch !== null && route.check.Check(data) ? route.prefetch(caller, data) : undefined
  }

  /** Throws `RT_INVALID_FRAME` for an unknown event, and `RT_INVALID_DATA`, naming the field, for data that break the schema. */
  find (event: string, data: unknown): Route {
    const route = this.#routes.get(event)
    if (route === undefined) throw new RealtimeError('RT_INVALID_FRAME', `Unknown event ${JSON.stringify(event.slice(0, 50))}`)
    if (!route.check.Check(data)) throw invalidData(route.check.Errors(data).First())
    return route
  }
}

/** The error for data that breaks its schema: names the field, never repeats its value. */
export function invalidData (error: ValueError | undefined): RealtimeError {
  const field = error?.path.slice(1).replaceAll('/', '.') ?? ''
  return new RealtimeError('RT_INVALID_DATA', `${field === '' ? 'data' : field}: ${error?.message ?? 'not valid'}`)
}
