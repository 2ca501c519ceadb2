import type { TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyBaseLogger } from 'fastify'
import type { Access } from '../../lib/access/access.js'
import { thenMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Caller, Identity } from '../../lib/identity.js'

/** The argument of a host's `beforePublish`. */
export interface Publication {
  identity: Identity
  /** The frame's name: `message:group`, a custom event; `message:edit` for an edit. */
  event: string
  channel: string
  /** The frame's data, under the names of the frame over REST too. */
  data: Readonly<Record<string, unknown>>
  via: 'socket' | 'rest'
}

/**
 * Called with a client's durable or custom event before it is stored or sent. Returns other data to store instead, nothing to
 * keep the data, or `{ reject: 'why' }`, which the client gets as `RT_REJECTED`. If it throws, or takes longer than
 * `hostTimeout`, the client gets `RT_UNAVAILABLE`.
 */
export type BeforePublish = (publication: Publication) => MaybePromise<Record<string, unknown> | { reject: string } | undefined | null>

/** The field that does not match the schema of the event; null if the data are valid. */
export type FaultIn = (data: Record<string, unknown>) => string | null

export function faultFinder (schema: TSchema): FaultIn {
  const check = TypeCompiler.Compile(schema)
  return (data) => check.Check(data) ? null : check.Errors(data).First()?.path.slice(1).replaceAll('/', '.') ?? ''
}

/** Calls the host's `beforePublish`, if there is one, and validates its result with the schema of the event. */
export class Screening {
  readonly #access: Access
  readonly #beforePublish: BeforePublish | undefined
  readonly #log: FastifyBaseLogger

  constructor (access: Access, beforePublish: BeforePublish | undefined, log: FastifyBaseLogger) {
    this.#access = access
    this.#beforePublish = beforePublish
    this.#log = log
  }

  /**
   * The data to publish. Synchronous without `beforePublish` (bench row "direct messages, durable"). Throws, or rejects with,
   * `RT_REJECTED`, `RT_UNAVAILABLE`, `RT_INTERNAL` if the host's data break the schema.
   */
  screen<Data extends object> (caller: Caller, event: string, channel: string, data: Data, faultIn: FaultIn): MaybePromise<Data> {
    const beforePublish = this.#beforePublish
    if (beforePublish === undefined) return data
    const publication: Publication = {
      identity: caller.identity, event, channel, data: data as Readonly<Record<string, unknown>>, via: caller.connectionId === null ? 'rest' : 'socket'
    }
    return thenMaybe(this.#access.ask(caller, 'beforePublish', () => beforePublish(publication)), (answer) => {
      if (answer === undefined || answer === null) return data
      const isObject = typeof answer === 'object' && !Array.isArray(answer)
      if (isObject && 'reject' in answer && typeof answer.reject === 'string') throw new RealtimeError('RT_REJECTED', answer.reject)
      const field = isObject ? faultIn(answer) : ''
      if (field !== null) {
        this.#log.error({ event, field }, 'beforePublish returned data that break the event’s schema')
        throw new RealtimeError('RT_INTERNAL')
      }
      return answer as Data
    })
  }
}
