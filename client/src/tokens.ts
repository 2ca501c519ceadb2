import { ClientError, toClientError } from './errors.js'
import type { Scope } from './scope.js'

/** A text, or a function asked for a new one each time. */
export type TokenSource = string | (() => string | Promise<string>)

/** Milliseconds that the token function may take. */
const DEADLINE = 30_000

/** The credentials that sockets and requests share. */
export interface Tokens {
  /** Of which it is known whose it is: only with this one anything is sent in a user's name. */
  current?: string | undefined
  /** The server has said no to this one: it is not shown again. */
  refused?: string | undefined
  /**
   * A new one, so that a client that slept does not come with an old one; undefined: cookies. The function is asked by one
   * call at a time, which all who need a token share: refresh tokens are good for one use. Rejects with `RT_TOKEN_FAILED`,
   * and with `RT_UNAUTHENTICATED` where the answer is the token that was refused.
   */
  fresh (scope: Scope): Promise<string | undefined>
}

export function createTokens (source: TokenSource | undefined): Tokens {
  let asking: Promise<string> | undefined

  const tokens: Tokens = {
    fresh: async (scope) => {
      if (!source) return
      let token: unknown = source
      if (typeof token === 'function') {
        const mine = asking ??= (async () => await (source as () => Promise<string>)())()
        const forget = (): void => { if (asking === mine) asking = undefined }
        const late = (): ClientError => {
          // A call that hangs must not keep everyone waiting for good.
          forget()
          return new ClientError('RT_TOKEN_FAILED', 'no answer')
        }
        mine.then(forget, forget)
        token = await scope.guard(mine, DEADLINE, late).catch((err: unknown) => { throw toClientError(err, 'RT_TOKEN_FAILED') })
      }
      if (typeof token !== 'string' || !token) throw new ClientError('RT_TOKEN_FAILED')
      if (token === tokens.refused) throw new ClientError('RT_UNAUTHENTICATED')
      return token
    }
  }
  return tokens
}
