import { ClientError, toClientError } from './errors.js'
import { TOKEN_DEADLINE } from './limits.js'
import type { Scope } from './scope.js'
import type { Core } from './state.js'

/** A token, or a function that returns a new one. */
export type TokenSource = string | (() => string | Promise<string>)

/** The credentials shared by sockets and requests. */
export interface Tokens {
  /** The token whose user is known. Only with this token is anything sent for a user. */
  current?: string | undefined
  /** The server refused this token: it is not used again. */
  refused?: string | undefined
  /**
   * Resolves with a new token, so that a client that slept does not use an old one; undefined with cookies. Concurrent calls share
   * one call of the function, because refresh tokens can be used once. Rejects with `RT_TOKEN_FAILED`, and with
   * `RT_UNAUTHENTICATED` if the function returns the refused token.
   */
  freshToken (scope: Scope): Promise<string | undefined>
}

export function createTokens (core: Core): Tokens {
  const source = core.token
  let asking: Promise<string> | undefined

  return {
    freshToken: async (scope) => {
      if (!source) return
      let token: unknown = source
      if (typeof token === 'function') {
        const mine = asking ??= (async () => await (source as () => Promise<string>)())()
        const forget = (): void => { if (asking === mine) asking = undefined }
        mine.then(forget, forget)
        token = await scope.guard(mine, TOKEN_DEADLINE, 'RT_TOKEN_FAILED').catch((thrown: unknown) => {
          const err = toClientError(thrown, 'RT_TOKEN_FAILED')
          // A call that hangs must not block all others forever.
          if (err.code === 'RT_TOKEN_FAILED') forget()
          throw err
        })
      }
      if (typeof token !== 'string' || !token) throw new ClientError('RT_TOKEN_FAILED')
      if (token === core.refused) throw new ClientError('RT_UNAUTHENTICATED')
      return token
    }
  }
}
