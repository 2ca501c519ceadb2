import type { Register } from '../../lib/register.js'
import type { Id } from '../../lib/ids.js'
import type { ObjectSchema } from '../../lib/wire/json-schema.js'
import type { BroadcastData, GroupData, serverEvents } from './schemas.js'

/** A custom event of the host, validated, authorized, stored, recovered and documented like the built-in ones. */
export interface CustomEvent {
  /**
   * The schema of its data, as a JSON Schema of an object: from TypeBox 0.34, from `typebox` 1.x, or written by hand. `channel`,
   * `userId`, `messageId`, `dedupeId` and `timestamp` are added by the server.
   */
  readonly data: ObjectSchema
  /** Stored before it is sent, and replayed with `since`; default true. False: sent to current subscribers only. */
  readonly durable?: boolean
  /** Who sends it: host code alone (`server`, the default), clients that may publish to the channel (`client`), or `both`. */
  readonly direction?: 'server' | 'client' | 'both'
}

/** Events by name. */
export type CustomEventMap = Readonly<Record<string, CustomEvent>>

/** Returns the events unchanged, with the exact types of the declaration, for `publish`, `emit` and the client. */
export const defineEvents = <const Events extends CustomEventMap>(events: Events): Events => events

/**
 * The data of custom events, declared by hand. Not needed if the declaration itself is registered: see {@link Register}.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the host
export interface HostEvents {}

type Simplify<T> = { [Name in keyof T]: T[Name] } & unknown

interface Scalars { string: string, integer: number, number: number, boolean: boolean, null: null }

/** The type of the values of a schema. */
export type TypeOf<Schema> =
  // Schemas of TypeBox 0.34 carry their type.
  Schema extends { static: infer Type } ? Type
    : Schema extends { const: infer Type } ? Type
      : Schema extends { enum: ReadonlyArray<infer Type> } ? Type
        : Schema extends { anyOf: readonly unknown[] } ? TypeOf<Schema['anyOf'][number]>
          : Schema extends { oneOf: readonly unknown[] } ? TypeOf<Schema['oneOf'][number]>
            : Schema extends { allOf: readonly unknown[] } ? AllOf<Schema['allOf']>
              : Schema extends { type: infer Name } ? ByName<Schema, Name> : unknown

type ByName<Schema, Name> =
  Name extends keyof Scalars ? Scalars[Name]
    : Name extends 'array' ? (Schema extends { items: infer Items } ? ItemsOf<Items> : unknown[])
      : Name extends 'object' ? ObjectOf<Schema>
        : Name extends ReadonlyArray<infer One> ? (One extends unknown ? ByName<Schema, One> : never) : unknown

type ItemsOf<Items> = Items extends readonly unknown[] ? { -readonly [I in keyof Items]: TypeOf<Items[I]> } : Array<TypeOf<Items>>

type AllOf<Parts> = Parts extends readonly [infer First, ...infer Rest] ? TypeOf<First> & AllOf<Rest> : unknown

type ObjectOf<Schema> = Schema extends { properties: infer Properties }
  ? Simplify<
    & { [Name in RequiredIn<Schema, Properties>]: TypeOf<Properties[Name]> }
    & { [Name in Exclude<keyof Properties, RequiredIn<Schema, Properties>>]?: TypeOf<Properties[Name]> }>
  : Schema extends { patternProperties: infer Patterns } ? Record<string, TypeOf<Patterns[keyof Patterns]>> : Record<string, unknown>

/** `typebox` 1.x marks optional fields; JSON Schema lists the required ones. */
type RequiredIn<Schema, Properties> = Schema extends { '~kind': 'Object' }
  ? { [Name in keyof Properties]: Properties[Name] extends { '~optional': true } ? never : Name }[keyof Properties]
  : Schema extends { required: readonly unknown[] } ? Extract<Schema['required'][number], keyof Properties> : never

interface Added { userId: Id, channel: string, timestamp: string }

/** The data that subscribers receive, by event: for `client.on`. */
export type ReceivedEvents<Events extends CustomEventMap> = {
  -readonly [Name in keyof Events]: Simplify<
    TypeOf<Events[Name]['data']> & Added & (Events[Name] extends { durable: false } ? unknown : { messageId: number })>
}

/** The data that clients send, and their acks, by event: for `client.send`. */
export type SentEvents<Events extends CustomEventMap> = {
  -readonly [Name in keyof Events as Events[Name] extends { direction: 'client' | 'both' } ? Name : never]: {
    data: Simplify<TypeOf<Events[Name]['data']> & { channel: string, dedupeId?: string }>
    ack: Events[Name] extends { durable: false } ? { timestamp: string } : { messageId: number, timestamp: string }
  }
}

/** Built-in events that host code may publish, with the data it must give; the server adds the other fields. */
interface BuiltIn {
  'message:group': Pick<GroupData, 'message' | 'conversationId' | 'data'>
  'message:direct': Pick<GroupData, 'message' | 'conversationId' | 'data'>
  'broadcast:message': Pick<BroadcastData, 'message' | 'messageType'>
  'notification:received': Partial<Pick<(typeof serverEvents)['notification:received']['static'], 'icon' | 'tag'>> &
    Pick<(typeof serverEvents)['notification:received']['static'], 'title' | 'body'>
}

type Registered = Register extends { events: infer Events extends CustomEventMap } ? Events : Record<never, CustomEvent>

/** The known names; any other name is accepted, too. */
export type EventName = keyof Registered | keyof HostEvents | keyof BuiltIn | (string & {})

/** The data of an event: as declared by the host, or of a built-in event, else any. */
export type DataOf<Name> =
  Name extends keyof Registered ? TypeOf<Registered[Name]['data']>
    : Name extends keyof HostEvents ? HostEvents[Name]
      : Name extends keyof BuiltIn ? BuiltIn[Name] & Record<string, unknown> : Record<string, unknown>
