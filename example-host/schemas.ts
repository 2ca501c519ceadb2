import { Type } from '@sinclair/typebox'
import { Id } from '../plugins/schemas.js'

/** The shapes of the host's own routes. */

/** Something that can be seen: neither spaces, nor marks without a letter, nor letters that are blank. */
const VISIBLE = '(?![\\u115F\\u1160\\u2800\\u3164\\uFFA0])[\\p{L}\\p{N}\\p{P}\\p{S}]'

export const Login = Type.Object({
  userId: Id,
  clubId: Id,
  name: Type.Optional(Type.String({ minLength: 1, maxLength: 100, pattern: VISIBLE, description: 'With something that can be seen' })),
  admin: Type.Optional(Type.Boolean())
})

export const LoggedIn = Type.Object({ token: Type.String(), userId: Id, clubId: Id, name: Type.String() })

/** Either users by id, separated by commas, or users with a word in their name that begins with a text. */
export const PeopleQuery = Type.Object({
  ids: Type.Optional(Type.String({ maxLength: 7000, pattern: '^[^,]+(,[^,]+){0,99}$' })),
  search: Type.Optional(Type.String({ minLength: 1, maxLength: 100 }))
})

export const People = Type.Object({ people: Type.Array(Type.Object({ userId: Id, name: Type.String() })) })

export const Health = Type.Object({ ok: Type.Boolean(), database: Type.Boolean(), redis: Type.Boolean() })

export const Document = Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true })
