import type { ServerErrorCode } from './wire.js'

/** The server's codes, and those that only a client can have. */
export type ClientErrorCode = ServerErrorCode
  /** The base URL cannot be read. */
  | 'RT_URL_INVALID'
  /** No answer in time, or none that the suite gives. */
  | 'RT_SERVER_UNREACHABLE'
  /** REST answers, and sockets do not open: something on the way refuses them. */
  | 'RT_SOCKET_BLOCKED'
  /** The socket was closed, or is needed and not there; `closeCode` says why. */
  | 'RT_SOCKET_CLOSED'
  /** The token function threw, took too long, or gave no token. */
  | 'RT_TOKEN_FAILED'
  /** Too many sends wait for the server. */
  | 'RT_QUEUE_FULL'
  /** Sent, and its answer was lost for too long or too often: it may be stored or not. */
  | 'RT_OUTCOME_UNKNOWN'
  /** The credentials are another user's now: what waited belonged to the one before. */
  | 'RT_IDENTITY_CHANGED'
  /** `disconnect()` or `unsubscribe()` was called, or the reconnects are used up. */
  | 'RT_CLIENT_STOPPED'

interface Details {
  /** Seconds until another try makes sense. */
  retryAfter?: number | undefined
  /** How the socket was closed. */
  closeCode?: number | undefined
  /** The channel it is about. */
  channel?: string | undefined
  /** The HTTP status, where a request was answered. */
  status?: number | undefined
  /** Of `RT_STORAGE_UNAVAILABLE`: whether it may be stored all the same. */
  outcome?: 'none' | 'unknown' | undefined
  cause?: unknown
}

/** The one error of the client: rejections of its methods, and its `error` event. */
export class ClientError extends Error implements Details {
  declare readonly code: ClientErrorCode
  declare readonly retryAfter?: number | undefined
  declare readonly closeCode?: number | undefined
  declare readonly channel?: string | undefined
  declare readonly status?: number | undefined
  declare readonly outcome?: 'none' | 'unknown' | undefined
  declare readonly cause?: unknown

  constructor (code: ClientErrorCode, message: string = code, details?: Details) {
    super(message)
    Object.assign(this, details, { name: 'ClientError', code })
  }
}

/** Whatever was thrown, as a {@link ClientError}. */
export const toClientError = (err: unknown, code: ClientErrorCode = 'RT_SERVER_UNREACHABLE'): ClientError =>
  err instanceof ClientError ? err : new ClientError(code, String(err), { cause: err })
