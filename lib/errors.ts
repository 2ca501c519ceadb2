import { STATUS_CODES } from 'node:http'

/**
 * Every error that a client can get, in one table; codes are never reused.
 * An entry is `[HTTP status, default message]`; the message includes what to do if that is not obvious.
 */
const table = {
  RT_UNAUTHENTICATED: [401, 'Authenticate first: the credentials are missing or not valid'],
  RT_TOKEN_EXPIRED: [401, 'The credentials have expired: get a new token'],
  RT_IDENTITY_MISMATCH: [403, 'The user or tenant (clubId) named in the request is not the one of the credentials'],
  RT_FORBIDDEN: [403, 'Not allowed'],
  RT_NOT_FOUND: [404, 'Not found'],
  RT_CONNECTION_TAKEN: [409, 'This connection id belongs to someone else: choose another'],
  RT_INVALID_FRAME: [400, 'Not a frame: send one JSON object { event, data, id? } with a known event'],
  RT_INVALID_DATA: [400, 'The data of the event is not valid'],
  RT_RATE_LIMITED: [429, 'Too many requests: wait before sending again'],
  RT_LIMIT_EXCEEDED: [409, 'A limit is reached'],
  RT_STORAGE_UNAVAILABLE: [503, 'The event cannot be stored now: send it again later'],
  RT_INTERNAL: [500, 'Internal error'],
  RT_UNAVAILABLE: [503, 'The server cannot decide this now: keep what you have and try again'],
  RT_BANNED: [403, 'This user is banned'],
  RT_TOKEN_REVOKED: [401, 'The credentials were revoked: log in again'],
  RT_REJECTED: [422, 'The server does not accept this content']
} as const satisfies Record<string, readonly [status: number, message: string]>

/** The default message of an error. */
export const messageOf = (code: ErrorCode): string => table[code][1]

export type Outcome = 'none' | 'unknown'

/** The code of a {@link RealtimeError}, as in REST errors and in `error` frames. */
export type ErrorCode = keyof typeof table

export const errorCodes = Object.keys(table) as ErrorCode[]

/** An error that a client may see: its code, its HTTP status and, for limits, the seconds to wait. */
export class RealtimeError extends Error {
  override readonly name = 'RealtimeError'
  readonly code: ErrorCode
  readonly statusCode: number
  /** Seconds to wait before trying again. */
  readonly retryAfter?: number
  /**
   * With `RT_STORAGE_UNAVAILABLE`: `none`, nothing was stored; `unknown`, it may have been. Repeating the send with the same
   * `dedupeId` is safe in both cases.
   */
  readonly outcome?: Outcome
  /** Of a call for several recipients: the number of events that are certainly stored. */
  readonly stored?: number

  constructor (
    code: ErrorCode, message?: string, options: { retryAfter?: number, outcome?: Outcome, stored?: number, cause?: unknown } = {}
  ) {
    super(message ?? table[code][1], options.cause === undefined ? {} : { cause: options.cause })
    this.code = code
    this.statusCode = table[code][0]
    if (options.retryAfter !== undefined) this.retryAfter = options.retryAfter
    if (code === 'RT_STORAGE_UNAVAILABLE') this.outcome = options.outcome ?? 'unknown'
    if (options.stored !== undefined) this.stored = options.stored
  }
}

/** The error as the data of an `error` frame. */
export function errorData ({ code, message, retryAfter, outcome }: RealtimeError): { code: ErrorCode, message: string, retryAfter?: number, outcome?: Outcome } {
  return { code, message, ...(retryAfter === undefined ? {} : { retryAfter }), ...(outcome === undefined ? {} : { outcome }) }
}

/** Fastify's shape of an error. */
export interface ErrorBody { statusCode: number, code: string, error: string, message: string, outcome?: Outcome }

/** The error as the body of a REST response, in Fastify's shape. */
export function errorBody ({ code, message, statusCode, outcome }: RealtimeError): ErrorBody {
  return { statusCode, code, error: STATUS_CODES[statusCode] ?? 'Error', message, ...(outcome === undefined ? {} : { outcome }) }
}

/** The error that a client gets for any failure: a RealtimeError as it is, everything else as `RT_INTERNAL` without its text. */
export function toRealtimeError (error: unknown): RealtimeError {
  return error instanceof RealtimeError ? error : new RealtimeError('RT_INTERNAL', undefined, { cause: error })
}

/** Thrown while a host registers a plugin with options that cannot work; the message begins with the option's name. */
export class OptionError extends Error {
  override readonly name = 'OptionError'
  readonly code = 'RT_OPTION_INVALID'

  constructor (option: string, problem: string, cause?: unknown) {
    super(`option "${option}" ${problem}`, cause === undefined ? {} : { cause })
  }
}
