import type { ServerErrorCode } from './wire.js'

/** The error codes of the server and of the client. */
export type ClientErrorCode = ServerErrorCode
  /** The base URL is not valid. */
  | 'RT_URL_INVALID'
  /** No response in time, or a response that is not from fastify-realtime. */
  | 'RT_SERVER_UNREACHABLE'
  /** REST works, but sockets do not open: something in between blocks them. */
  | 'RT_SOCKET_BLOCKED'
  /** The socket was closed, with `closeCode`, or the call needs a socket and none is open. */
  | 'RT_SOCKET_CLOSED'
  /** The token function threw, took too long, or returned no token. */
  | 'RT_TOKEN_FAILED'
  /** Too many sends are queued. */
  | 'RT_QUEUE_FULL'
  /** The event was sent, but its ack was lost for too long or too often: it may or may not be stored. */
  | 'RT_OUTCOME_UNKNOWN'
  /** The credentials now belong to another user: queued sends of the previous user are not sent. */
  | 'RT_IDENTITY_CHANGED'
  /** `disconnect()` or `unsubscribe()` was called, or the reconnects are used up. */
  | 'RT_CLIENT_STOPPED'

interface Details {
  /** Seconds after which another attempt makes sense. */
  retryAfter?: number | undefined
  /** The close code of the socket. */
  closeCode?: number | undefined
  /** The server's reason for the close. */
  reason?: string | undefined
  /** The channel to which the error belongs. */
  channel?: string | undefined
  /** The HTTP status of the response, if there was one. */
  status?: number | undefined
  /** With `RT_STORAGE_UNAVAILABLE`: `unknown` if the event may be stored nevertheless. */
  outcome?: 'none' | 'unknown' | undefined
  cause?: unknown
}

/** The error with which methods of the client reject, and the data of its `error` event. */
export class ClientError extends Error implements Details {
  declare readonly code: ClientErrorCode
  declare readonly retryAfter?: number | undefined
  declare readonly closeCode?: number | undefined
  declare readonly reason?: string | undefined
  declare readonly channel?: string | undefined
  declare readonly status?: number | undefined
  declare readonly outcome?: 'none' | 'unknown' | undefined
  declare readonly cause?: unknown

  constructor (code: ClientErrorCode, message: string = code, details?: Details) {
    super(message)
    Object.assign(this, details, { name: 'ClientError', code })
  }
}

/** Converts any thrown value to a {@link ClientError}. */
export const toClientError = (err: unknown, code: ClientErrorCode = 'RT_SERVER_UNREACHABLE'): ClientError =>
  err instanceof ClientError ? err : new ClientError(code, String(err), { cause: err })
