import { ClientError } from './errors.js'
import type { Closed } from './link.js'
import type { Tokens } from './tokens.js'

/** `never`: stay away. `token`: only with another token. `later`: after a longer pause. */
export type Then = 'never' | 'token' | 'later' | 'again'

/** What becomes of the client after a failed attempt or a close. */
export class Outcome extends Error {
  readonly then: Then
  readonly error: ClientError
  /** REST answers, and sockets do not open; `userId` is who REST says it is. */
  readonly blocked: { userId: number } | null

  constructor (then: Then, error: ClientError, blocked: Outcome['blocked'] = null) {
    super(error.message)
    this.then = then
    this.error = error
    this.blocked = blocked
  }
}

/** What a refusal asks of the client. */
export function outcomeOf (error: ClientError, tokens: Tokens): Outcome {
  switch (error.code) {
    case 'RT_UNAUTHENTICATED': case 'RT_TOKEN_EXPIRED':
      tokens.refuse()
      return new Outcome(tokens.isFixed ? 'never' : 'token', error)
    // Another try would be told the same.
    case 'RT_URL_INVALID': case 'RT_IDENTITY_MISMATCH': case 'RT_FORBIDDEN': case 'RT_INVALID_DATA': return new Outcome('never', error)
    case 'RT_RATE_LIMITED': return new Outcome('later', error)
    case 'RT_SOCKET_CLOSED': return outcomeOfClose({ code: error.closeCode ?? 1006, reason: '' }, tokens)
    default: return new Outcome('again', error)
  }
}

/** What a close code asks of the client. */
export function outcomeOfClose ({ code, reason }: Closed, tokens: Tokens): Outcome {
  const error = new ClientError('RT_SOCKET_CLOSED', `The socket was closed with ${code} ${reason}`.trimEnd(), { closeCode: code })
  switch (code) {
    case 4000: case 4001: case 4400: case 4403: case 1009: return new Outcome('never', error)
    case 4401:
      tokens.refuse()
      return new Outcome(tokens.isFixed ? 'never' : 'token', error)
    case 4429: case 1013: return new Outcome('later', error)
    default: return new Outcome('again', error)
  }
}
