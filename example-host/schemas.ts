import { Type } from '@sinclair/typebox'
import { Id } from '../plugins/schemas.js'

/** The shapes of the host's own routes. */

export const Login = Type.Object({
  userId: Id,
  clubId: Id,
  name: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
  admin: Type.Optional(Type.Boolean())
})

export const LoggedIn = Type.Object({ token: Type.String(), userId: Id, clubId: Id, name: Type.String() })

export const Health = Type.Object({ ok: Type.Boolean(), database: Type.Boolean(), redis: Type.Boolean() })

export const Document = Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true })
