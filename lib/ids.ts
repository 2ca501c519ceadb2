import { Type, type TSchema } from '@sinclair/typebox'

/** What tenants and users are called: positive integers, or strings such as UUIDs. One choice per database. */
export type IdKind = 'integer' | 'string'

/**
 * A host whose ids are strings declares it once, and every option, API, event and client type follows:
 * `declare module 'fastify-realtime' { interface Register { ids: 'string' } }`.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the host
export interface Register {}

/** The id of a tenant or a user. */
export type Id = Register extends { ids: 'string' } ? string : number

/** 1 to 64 characters: UUIDs, ULIDs, `auth0|…`, `user_…`, e-mail addresses. Neither `/` nor `:`, which separate ids in keys. */
const STRING_ID = /^[A-Za-z0-9._\-@+=|]{1,64}$/
const INTEGER_ID = /^[1-9]\d{0,15}$/

const integerSchema = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
const stringSchema = Type.String({ minLength: 1, maxLength: 64, pattern: STRING_ID.source })

/** Everything that depends on the kind of ids. */
export class Ids {
  readonly kind: IdKind
  /** In whose name host code publishes without a user. */
  readonly system: Id

  constructor (kind: IdKind) {
    this.kind = kind
    this.system = (kind === 'string' ? '' : 0) as Id
  }

  /** A value that the host, or a verified identity, calls an id. */
  isId (value: unknown): value is Id {
    return this.kind === 'string' ? typeof value === 'string' && STRING_ID.test(value) : Number.isSafeInteger(value) && Number(value) > 0
  }

  /** An id as a URL, a database driver or Redis hands it out; null: it is none. */
  read (text: string): Id | null {
    if (this.kind === 'string') return STRING_ID.test(text) ? text as unknown as Id : null
    return INTEGER_ID.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null
  }

  /** The same for what fastify-realtime wrote itself, the sender `system` included. */
  parse (value: string | number | bigint): Id {
    return (this.kind === 'string' ? String(value) : Number(value)) as Id
  }

  /** The order of lists and cursors: numeric, or by bytes. */
  compare (a: Id, b: Id): number {
    if (a === b) return 0
    return a < b ? -1 : 1
  }
}

/** Marks the places of a schema where an id stands. */
const PLACE = Symbol('id')

type Place = 'id' | 'sender' | 'claim'

const placeholder = <T extends TSchema>(place: Place, schema: T): T => ({ ...schema, [PLACE]: place })

/** The id of a tenant or user in a schema. It shows integers until `withIds` puts the host's kind in its place. */
export const IdSchema = placeholder('id', Type.Unsafe<Id>(integerSchema))

/** In whose name an event was sent. */
export const SenderIdSchema = placeholder('sender', Type.Unsafe<Id>(
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: '0: the system itself' })))

/** An id that a client claims. A page's meta tags hold text, so a numeric string says the same. */
export const ClaimedIdSchema = placeholder('claim', Type.Unsafe<Id | string>(
  Type.Union([integerSchema, Type.String({ pattern: INTEGER_ID.source })])))

const strings: Record<Place, TSchema> = {
  id: stringSchema,
  sender: Type.String({ maxLength: 64, pattern: `^$|${STRING_ID.source}`, description: 'Empty: the system itself' }),
  claim: stringSchema
}

/** The schema with this kind of ids. Schemas are written once, and each app shows and checks its own. */
export function withIds<T> (schema: T, { kind }: Pick<Ids, 'kind'>): T {
  return kind === 'integer' ? schema : replaceIn(schema) as T
}

function replaceIn (value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (PLACE in value) {
    const { description } = value as unknown as TSchema
    const schema = strings[value[PLACE] as Place]
    return description === undefined || schema.description !== undefined ? schema : { ...schema, description }
  }
  if (Array.isArray(value)) return value.map(replaceIn)
  const copy: Record<string | symbol, unknown> = {}
  let isChanged = false
  for (const key of Reflect.ownKeys(value)) {
    const before: unknown = Reflect.get(value, key)
    const after = typeof key === 'string' ? replaceIn(before) : before
    if (after !== before) isChanged = true
    copy[key] = after
  }
  return isChanged ? copy : value
}
