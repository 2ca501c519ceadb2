import type { Static, TObject, TSchema } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import type { ValueError } from '@sinclair/typebox/errors'
import { RealtimeError } from './errors.js'
import type { Joining } from './joining.js'
import type { Caller, Identity } from './identity.js'
import type { Maybe } from './maybe.js'
import type { ReplayOptions } from './replayer.js'
import { eventsOf, type ClientEvents, type EventDescription, type ServerEvents } from './protocol.js'

/** A local connection, as plugins other than connections/ see it. */
export interface LocalConnection {
  readonly id: string
  readonly identity: Identity
  /** When its credentials were last shown, in milliseconds since 1970. */
  readonly authenticatedAt: number
  /** The channels it is subscribed to, by name. */
  readonly channels: ReadonlySet<string>
  /** Subscribed by the suite itself, not counted against the limit. */
  isAutomatic (channel: string): boolean
  /** Subscribes; what comes waits for `begin`, which must follow each `join` unless the channel is left. */
  join (channel: string): Maybe<Joining>
  /** The reply to `join` was written: what was missed follows, no faster than this connection reads, and then live events. */
  begin (joining: Joining, options?: ReplayOptions): void
  leave (channel: string): void
  /** Writes one encoded frame to this connection alone, in order with everything else. */
  send (payload: Buffer): void
  /** Closed or closing. */
  readonly closed: boolean
  /** Runs after the frames that came before, before those that come after. */
  inOrder<T> (task: () => Promise<T>): Promise<T>
  close (code: number, reason: string): void
}

/** What a frame handler is given: who, and the connection it came on. */
export interface FrameContext extends Caller {
  connectionId: string
  connection: LocalConnection
  /** What the definition's `ahead` returned for this very frame; undefined: it was not asked ahead. */
  prefetched?: unknown
}

/**
 * What a handler answers. `later` lets the next frames of the connection begin while this one is being committed; the
 * replies still leave in order.
 */
export interface FrameResult<Ack> {
  ack: Ack | { later: Promise<Ack> }
  /** The event in which the ack's data go out when the frame had no id; without it success is silent. */
  answer?: string
  /** Runs right after the reply was written. */
  afterReply?: () => void
}

export interface FrameDefinition<Data extends TObject, Ack extends TSchema> {
  event: string
  data: Data
  ack: Ack
  /** Begins, as soon as the frame came, what need not wait for the frames before it. */
  ahead? (caller: Caller, data: Static<Data>): unknown
  handle (context: FrameContext, data: Static<Data>): Maybe<FrameResult<Static<Ack>>>
}

export interface Route {
  check: TypeCheck<TObject>
  ahead: ((caller: Caller, data: unknown) => unknown) | null
  handle (context: FrameContext, data: unknown): Maybe<FrameResult<unknown>>
}

/** Event name → schema and handler. Plugins add theirs; connections/ feeds the frames in. */
export class FrameRouter {
  readonly #routes = new Map<string, Route>()
  readonly #catalogue: EventDescription[] = []

  /** Adds an event that clients send. */
  on<Data extends TObject, Ack extends TSchema> ({ event, data, ack, ahead, handle }: FrameDefinition<Data, Ack>): void {
    if (this.#routes.has(event)) throw new Error(`the event ${event} is defined twice`)
    const check = TypeCompiler.Compile(data)
    // Checked right before: the handler gets what its schema says.
    this.#routes.set(event, {
      check,
      ahead: ahead === undefined ? null : (caller, value) => ahead(caller, value as Static<Data>),
      handle: (context, value) => handle(context, value as Static<Data>)
    })
    this.#catalogue.push({ event, direction: 'client', data, ack })
  }

  /** Describes events that the server sends, and events of clients that are handled elsewhere. */
  describe (events: { client?: ClientEvents, server?: ServerEvents }): void {
    this.#catalogue.push(...eventsOf(events))
  }

  /** Every event of the registered plugins. */
  get catalogue (): readonly EventDescription[] {
    return this.#catalogue
  }

  /** A frame has come and waits for those before it: begins what need not wait. What it returns belongs to this frame alone. */
  ahead (caller: Caller, event: string, data: unknown): unknown {
    const route = this.#routes.get(event)
    return route !== undefined && route.ahead !== null && route.check.Check(data) ? route.ahead(caller, data) : undefined
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
