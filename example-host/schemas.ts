import { Type } from '@sinclair/typebox'

/** The shapes of the host's own routes. */

export const Login = Type.Object({
  userId: Type.Integer({ minimum: 1 }),
  clubId: Type.Integer({ minimum: 1 }),
  name: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
  admin: Type.Optional(Type.Boolean())
})

export const LoggedIn = Type.Object({ token: Type.String(), userId: Type.Integer(), clubId: Type.Integer(), name: Type.String() })

export const Health = Type.Object({ ok: Type.Boolean(), database: Type.Boolean(), redis: Type.Boolean() })

export const Document = Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true })
