import type { ErrorCode } from '../errors.js'

/** The server's codes, and those that only a client can have. */
export type ClientErrorCode = ErrorCode
  /** The base URL cannot be read. */
  | 'RT_URL_INVALID'
  /** No answer, or none that the suite gives. */
  | 'RT_SERVER_UNREACHABLE'
  /** The socket was closed; `closeCode` says why. */
  | 'RT_SOCKET_CLOSED'
  /** The token function threw, or gave no token. */
  | 'RT_TOKEN_FAILED'
  /** Too many sends wait for the server. */
  | 'RT_QUEUE_FULL'
  /** Sent, and the answer lost for longer than the server knows its `dedupeId`: it may be stored or not. */
  | 'RT_OUTCOME_UNKNOWN'
  /** `disconnect()` was called, or the reconnects are used up. */
  | 'RT_CLIENT_STOPPED'
  /** A listener of the application threw; `cause` is what. */
  | 'RT_LISTENER_FAILED'

interface Details { retryAfter?: number | undefined, closeCode?: number | undefined, channel?: string | undefined, cause?: unknown }

/** The one error of the client: rejections of its methods, and its `error` event. */
export class ClientError extends Error {
  override readonly name = 'ClientError'
  readonly code: ClientErrorCode
  /** Seconds until another try makes sense. */
  readonly retryAfter: number | undefined
  /** How the socket was closed. */
  readonly closeCode: number | undefined
  /** The channel it is about. */
  readonly channel: string | undefined

  constructor (code: ClientErrorCode, message: string, { retryAfter, closeCode, channel, cause }: Details = {}) {
    super(message, cause === undefined ? {} : { cause })
    this.code = code
    this.retryAfter = retryAfter
    this.closeCode = closeCode
    this.channel = channel
  }
}

/** Whatever was thrown, as a {@link ClientError}. */
export const toClientError = (err: unknown, code: ClientErrorCode = 'RT_SERVER_UNREACHABLE'): ClientError =>
  err instanceof ClientError ? err : new ClientError(code, err instanceof Error ? err.message : String(err), { cause: err })

/** The same may work a moment later. */
export const isPassing = ({ code }: ClientError): boolean =>
  ['RT_RATE_LIMITED', 'RT_STORAGE_UNAVAILABLE', 'RT_INTERNAL', 'RT_SERVER_UNREACHABLE'].includes(code)
