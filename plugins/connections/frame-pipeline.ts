import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { rateLimited } from '../../lib/access/rate-counters.js'
import { thenMaybe, catchMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { errorData, RealtimeError, toRealtimeError } from '../../lib/errors.js'
import { Deferred, type FrameResult } from '../../lib/frame-router.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { encodeFrame, idOf, parseFrame, type ClientFrame, type ErrorData, type FrameId } from '../../lib/wire/protocol.js'
import { illFormedFrame } from '../../lib/wire/well-formed.js'
import type { Connection } from './connection.js'
import type { Connections } from './connections.js'
import type { ReplySlot } from './frame-order.js'
import { AuthenticationFailure, type FrameHandler } from './frames.js'

/** The steps that each frame of a connection takes: rate limit, envelope, authentication, schema, handler, reply. */
export class FramePipeline {
  readonly #internals: Internals
  readonly #connections: Connections
  readonly #frames: ReadonlyMap<string, FrameHandler>
  readonly #log: FastifyBaseLogger

  /** `frames`: handlers of the frames that need no authenticated connection. */
  constructor (internals: Internals, connections: Connections, frames: ReadonlyMap<string, FrameHandler>, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#connections = connections
    this.#frames = frames
    this.#log = log
  }

  /** Takes one message of a socket; null for a binary one. The place of its reply is reserved at once. */
  receive (connection: Connection, text: string | null): void {
    const slot = connection.order.open()
    const wait = connection.limiter.msUntilAllowed()
    const { framesIn } = this.#internals.metrics
    if (wait > 0) {
      framesIn?.add('') // not parsed
      this.#refuse(slot, text === null ? undefined : idOf(text), rateLimited(wait))
      if (connection.limiter.isFlooding()) connection.close(CloseCode.flooding, 'flooding')
      return
    }
    const frame = text === null ? null : parseFrame(text)
    const fault = frame === null || text === null ? null : illFormedFrame(text, frame)
    const prefetched = frame !== null && fault === null && connection.phase.name === 'open'
      ? this.#internals.frames.prefetch({ identity: connection.identity, connectionId: connection.id, owner: connection }, frame.event, frame.data)
      : undefined
    connection.order.enqueue(() => {
      framesIn?.add(frame?.event ?? '')
      if (frame !== null && fault === null) return this.#handle(connection, slot, frame, prefetched)
      if (frame !== null && fault !== null) return this.#invalid(connection, slot, frame.id, fault)
      this.#invalid(connection, slot, text === null ? undefined : idOf(text), new RealtimeError('RT_INVALID_FRAME'))
    })
  }

  /**
   * Authenticates a socket with the credentials of its upgrade request. Without any, an `auth` frame may follow. `known` returns
   * the identity if it was determined before the upgrade. Never throws or rejects. Synchronous if the host is (bench row
   * "connect").
   */
  authenticateUpgrade (connection: Connection, token: string | undefined, known?: () => Identity | null): MaybePromise<void> {
    const slot = connection.order.open()
    const failed = (err: unknown): void => {
      const error = this.#toError(err)
      this.#refuse(slot, undefined, error, () => { connection.close(closeCodeFor(error), error.message) })
    }
    return catchMaybe(() => thenMaybe(known === undefined ? this.#internals.access.identify(token, connection.request, connection) : known(), (identity) => {
      if (identity === null && token !== undefined) throw new RealtimeError('RT_UNAUTHENTICATED')
      if (identity === null) slot.fill(null)
      else return thenMaybe(this.#connections.open(connection, identity, randomUUID()), ({ answer, live }) => { slot.fill(encodeFrame('authenticated', answer), live) })
    }), failed)
  }

  /** Never throws or rejects. Synchronous if the handler is (bench rows "fan-out under load", "direct messages, durable"). */
  #handle (connection: Connection, slot: ReplySlot, frame: ClientFrame, prefetched: unknown): MaybePromise<void> {
    return catchMaybe(() => {
      const handle = this.#frames.get(frame.event)
      if (handle === undefined) return this.#dispatch(connection, slot, frame, prefetched)
      return thenMaybe(handle(connection, frame.data ?? {}), (result) => { this.#answer(connection, slot, frame.id, result) })
    }, (err) => { this.#failed(connection, slot, frame.id, err) })
  }

  #failed (connection: Connection, slot: ReplySlot, id: FrameId | undefined, err: unknown): void {
    const error = this.#toError(err instanceof AuthenticationFailure ? err.cause : err)
    if (err instanceof AuthenticationFailure) {
      this.#refuse(slot, id, error, endsSocket(error, err.isRenewal) ? () => { connection.close(closeCodeFor(error), error.message) } : undefined)
    } else if (error.code === 'RT_INVALID_DATA' || error.code === 'RT_INVALID_FRAME') {
      this.#invalid(connection, slot, id, error)
    } else {
      this.#refuse(slot, id, error)
    }
  }

  #dispatch (connection: Connection, slot: ReplySlot, { event, data = {}, id }: ClientFrame, prefetched: unknown): MaybePromise<void> {
    if (connection.phase.name !== 'open') throw new RealtimeError('RT_UNAUTHENTICATED')
    const route = this.#internals.frames.find(event, data)
    const context = { identity: connection.identity, connectionId: connection.id, connection, owner: connection, prefetched }
    return thenMaybe(route.handle(context, data), (result) => { this.#answer(connection, slot, id, result) })
  }

  #answer (connection: Connection, slot: ReplySlot, id: FrameId | undefined, { ack, replyEvent, afterReply }: FrameResult<unknown>): void {
    const reply = (value: unknown): void => {
      if (id !== undefined) slot.fill(encodeFrame('ack', value, id), afterReply)
      else slot.fill(replyEvent === undefined ? null : encodeFrame(replyEvent, value), afterReply)
    }
    if (!(ack instanceof Deferred)) return reply(ack)
    slot.defer()
    ack.value.then((value: unknown) => {
      // One insert commits many events: their acks leave as one write.
      connection.cork()
      reply(value)
    }, (err: unknown) => { this.#refuse(slot, id, this.#toError(err)) })
  }

  #invalid (connection: Connection, slot: ReplySlot, id: FrameId | undefined, error: RealtimeError): void {
    const last = connection.limiter.tooManyInvalid()
    this.#refuse(slot, id, error, last ? () => { connection.close(CloseCode.badFrames, 'too many invalid frames') } : undefined)
  }

  #refuse (slot: ReplySlot, id: FrameId | undefined, error: RealtimeError, afterwards?: () => void): void {
    this.#internals.metrics.refuse(error.code)
    const data: ErrorData = errorData(error)
    slot.fill(encodeFrame('error', data, id), afterwards)
  }

  #toError (err: unknown): RealtimeError {
    const error = toRealtimeError(err)
    // A RealtimeError was logged where it was thrown, if it needs a log line.
    if (error !== err) this.#log.error({ err }, 'Frame failed')
    return error
  }
}

/** An open connection keeps its old credentials if newer ones are not valid, unless they are another user's, or the user is banned or revoked. */
function endsSocket ({ code }: RealtimeError, isRenewal: boolean): boolean {
  if (code === 'RT_IDENTITY_MISMATCH' || code === 'RT_BANNED' || code === 'RT_TOKEN_REVOKED') return true
  return !isRenewal && (code === 'RT_UNAUTHENTICATED' || code === 'RT_LIMIT_EXCEEDED' || code === 'RT_TOKEN_EXPIRED' || code === 'RT_UNAVAILABLE' || code === 'RT_INTERNAL')
}

/** The close code, from which the client derives whether to reconnect later, never, or with a new token. */
function closeCodeFor ({ code }: RealtimeError): number {
  if (code === 'RT_STORAGE_UNAVAILABLE' || code === 'RT_LIMIT_EXCEEDED' || code === 'RT_INTERNAL' || code === 'RT_UNAVAILABLE') return CloseCode.overloaded
  if (code === 'RT_RATE_LIMITED') return CloseCode.flooding
  return code === 'RT_BANNED' ? CloseCode.forbidden : CloseCode.unauthenticated
}
