import type { ErrorCode } from '../errors.js'

/** The server's codes, and those that only a client can have. */
export type ClientErrorCode = ErrorCode
  /** The base URL cannot be read. */
  | 'RT_URL_INVALID'
  /** No answer, or none that the suite gives. */
  | 'RT_SERVER_UNREACHABLE'
  /** REST answers, and sockets do not open: something on the way refuses them. */
  | 'RT_SOCKET_BLOCKED'
  /** The socket was closed, or is needed and not there; `closeCode` says why. */
  | 'RT_SOCKET_CLOSED'
  /** The token function threw, or gave no token. */
  | 'RT_TOKEN_FAILED'
  /** Too many sends wait for the server. */
  | 'RT_QUEUE_FULL'
  /** Sent, and the answer lost for longer than the server knows its `dedupeId`: it may be stored or not. */
  | 'RT_OUTCOME_UNKNOWN'
  /** `disconnect()` or `unsubscribe()` was called, or the reconnects are used up. */
  | 'RT_CLIENT_STOPPED'

interface Details {
  /** Seconds until another try makes sense. */
  retryAfter?: number | undefined
  /** How the socket was closed. */
  closeCode?: number
  /** The channel it is about. */
  channel?: string
}

/** The one error of the client: rejections of its methods, and its `error` event. */
export class ClientError extends Error implements Details {
  override readonly name = 'ClientError'
  readonly code: ClientErrorCode
  declare readonly retryAfter?: number | undefined
  declare readonly closeCode?: number
  declare readonly channel?: string

  constructor (code: ClientErrorCode, message: string = code, details: Details = {}, cause?: unknown) {
    super(message, { cause })
    this.code = code
    Object.assign(this, details)
  }
}

/** Whatever was thrown, as a {@link ClientError}. */
export const toClientError = (err: unknown, code: ClientErrorCode = 'RT_SERVER_UNREACHABLE'): ClientError =>
  err instanceof ClientError ? err : new ClientError(code, String(err), {}, err)

/** The same may work a moment later. */
export const isPassing = ({ code }: ClientError): boolean =>
  /RATE_LIMITED|STORAGE_UNAVAILABLE|INTERNAL|UNREACHABLE/.test(code)
