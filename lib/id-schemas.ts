import { OptionalKind, Type, type Kind, type TSchema } from '@sinclair/typebox'
import { channelPattern, idPattern, type Id as IdType, type IdKind } from './ids.js'

/**
 * The schemas that depend on the kind of ids. They are written for integer ids; {@link withIds} converts them to string ids.
 */

/** Marks a schema that depends on the kind of ids. */
const PLACE = Symbol('id')

type Place = 'id' | 'sender' | 'claim' | 'list' | 'channel'

const placeholder = <T extends TSchema>(place: Place, schema: T): T => ({ ...schema, [PLACE]: place })

/** Named, so that declaration files refer to it, and a host's program resolves it with its own `Register`. */
export interface TId extends TSchema { [Kind]: string, static: IdType }

const CHANNEL_DESCRIPTION = 'A channel of the tenant; user:me is the caller’s own private-user.{id}'
const MAX_LIST = 200
const LIST_DESCRIPTION = `Up to ${MAX_LIST} user ids, separated by commas`

const integer = (minimum: number) => Type.Integer({ minimum, maximum: Number.MAX_SAFE_INTEGER })
const listPattern = (kind: IdKind): string => `^${idPattern(kind)}(,${idPattern(kind)}){0,${MAX_LIST - 1}}$`
const channelOf = (kind: IdKind) => Type.String({ pattern: channelPattern(kind), minLength: 1, maxLength: 255, description: CHANNEL_DESCRIPTION })

/** The id of a tenant or a user. */
export const Id: TId = placeholder('id', Type.Unsafe<IdType>(integer(1)))

/** The user who sent an event, or the host itself. */
export const SenderId: TId = placeholder('sender', Type.Unsafe<IdType>({ ...integer(0), description: '0: the system itself' }))

/** An id that a client claims to have. Digits are accepted for an integer, because meta tags of a page contain text. */
export const ClaimedId = placeholder('claim', Type.Unsafe<IdType | string>(
  Type.Union([integer(1), Type.String({ pattern: `^${idPattern('integer')}$` })])))

/** Ids of users in a query. */
export const IdList = placeholder('list', Type.String({ pattern: listPattern('integer'), description: LIST_DESCRIPTION }))

/** A channel's name inside its tenant. */
export const Channel = placeholder('channel', channelOf('integer'))

const ofStrings: Record<Place, TSchema> = {
  id: Type.String({ minLength: 1, maxLength: 64, pattern: `^${idPattern('string')}$` }),
  sender: Type.String({ maxLength: 64, pattern: `^(?:${idPattern('string')})?$`, description: 'Empty: the system itself' }),
  claim: Type.String({ minLength: 1, maxLength: 64, pattern: `^${idPattern('string')}$` }),
  list: Type.String({ pattern: listPattern('string'), description: LIST_DESCRIPTION }),
  channel: channelOf('string')
}

/** Converts a schema, or an object that contains schemas, to this kind of ids. */
export function withIds<T> (schemas: T, kind: IdKind): T {
  return kind === 'integer' ? schemas : replaceIn(schemas) as T
}

function replaceIn (value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (PLACE in value) {
    const schema = ofStrings[value[PLACE] as Place]
    return OptionalKind in value ? { ...schema, [OptionalKind]: value[OptionalKind] } : schema
  }
  if (Array.isArray(value)) return value.map(replaceIn)
  let copy: Record<string | symbol, unknown> | null = null
  for (const [key, before] of Object.entries(value)) {
    const after = replaceIn(before)
    if (after === before) continue
    copy ??= { ...value }
    copy[key] = after
  }
  return copy ?? value
}
