import { randomUUID } from 'node:crypto'
import type { TObject } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import type { FastifyBaseLogger } from 'fastify'
import { rateLimited } from '../../lib/access/rate-counters.js'
import { thenMaybe, catchMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { toIso } from '../../lib/clock.js'
import { errorData, RealtimeError, toRealtimeError } from '../../lib/errors.js'
import { invalidData, type FrameResult } from '../../lib/frame-router.js'
import { withIds } from '../../lib/id-schemas.js'
import type { Identity } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { encodeFrame, idOf, parseFrame, type ClientFrame, type ErrorData, type FrameId } from '../../lib/wire/protocol.js'
import { illFormedFrame } from '../../lib/wire/well-formed.js'
import type { Connection } from './connection.js'
import type { Connections } from './connections.js'
import type { ReplySlot } from './reply-queue.js'
import { AuthData, clientEvents, serverEvents, type Pong } from './schemas.js'

/** What a connection's frames go through: rate, envelope, authentication, schema, handler, reply. */
export class FramePipeline {
  readonly #internals: Internals
  readonly #connections: Connections
  readonly #log: FastifyBaseLogger
  readonly #authData: TypeCheck<TObject>

  constructor (internals: Internals, connections: Connections, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#connections = connections
    this.#log = log
    this.#authData = TypeCompiler.Compile<TObject>(withIds(AuthData, internals.ids.kind))
    internals.frames.describe({ client: clientEvents, server: serverEvents })
  }

  /** Takes one message of a socket. Its reply has its place in the order from now on. */
  receive (connection: Connection, text: string | null): void {
    const slot = connection.replies.open()
    const wait = connection.limiter.msUntilAllowed()
    const { framesIn } = this.#internals.metrics
    if (wait > 0) {
      framesIn?.add('') // not even read
      this.#refuse(slot, text === null ? undefined : idOf(text), rateLimited(wait))
      if (connection.limiter.isFlooding()) connection.close(CloseCode.flooding, 'flooding')
      return
    }
    const frame = text === null ? null : parseFrame(text)
    const fault = frame === null || text === null ? null : illFormedFrame(text, frame)
    const prefetched = frame !== null && fault === null && connection.phase.name === 'open'
      ? this.#internals.frames.prefetch({ identity: connection.identity, connectionId: connection.id, owner: connection }, frame.event, frame.data)
      : undefined
    connection.enqueueFrame(() => {
      framesIn?.add(frame?.event ?? '')
      if (frame !== null && fault === null) return this.#handle(connection, slot, frame, prefetched)
      if (frame !== null && fault !== null) return this.#invalid(connection, slot, frame.id, fault)
      this.#invalid(connection, slot, text === null ? undefined : idOf(text), new RealtimeError('RT_INVALID_FRAME'))
    })
  }

  /**
   * Authenticates a socket by what its upgrade request carried; where that is nothing, an `auth` frame may follow. `known`
   * says who it is where that was asked already. Never throws or rejects.
   */
  authenticateUpgrade (connection: Connection, token: string | undefined, known?: () => Identity | null): MaybePromise<void> {
    const slot = connection.replies.open()
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

  /** Never throws or rejects. */
  #handle (connection: Connection, slot: ReplySlot, frame: ClientFrame, prefetched: unknown): MaybePromise<void> {
    const failed = (err: unknown): void => {
      const error = this.#toError(err)
      if (error.code === 'RT_INVALID_DATA' || error.code === 'RT_INVALID_FRAME') this.#invalid(connection, slot, frame.id, error)
      else this.#refuse(slot, frame.id, error)
    }
    return catchMaybe(() => {
      if (frame.event === 'ping') return this.#pong(slot, frame.id)
      return frame.event === 'auth' ? this.#auth(connection, slot, frame) : this.#dispatch(connection, slot, frame, prefetched)
    }, failed)
  }

  async #auth (connection: Connection, slot: ReplySlot, frame: ClientFrame): Promise<void> {
    const data = frame.data ?? {}
    if (!this.#authData.Check(data)) throw invalidData(this.#authData.Errors(data).First())
    const auth = data as AuthData // checked right above
    const renewing = connection.phase.name === 'open'
    try {
      const identity = await this.#identify(auth, connection)
      const { answer, live } = renewing
        ? { answer: this.#connections.renew(connection, identity), live: undefined }
        : await this.#connections.open(connection, identity, auth.connectionId ?? randomUUID())
      slot.fill(encodeFrame(frame.id === undefined ? 'authenticated' : 'ack', answer, frame.id), live)
    } catch (err) {
      const error = this.#toError(err)
      this.#refuse(slot, frame.id, error, endsSocket(error, renewing) ? () => { connection.close(closeCodeFor(error), error.message) } : undefined)
    }
  }

  async #identify ({ token, userId, clubId }: AuthData, connection: Connection): Promise<Identity> {
    const identity = await this.#internals.access.identify(token, connection.request, connection)
    if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
    const isOther = (claimed: Id | string | undefined, id: Id): boolean => claimed !== undefined && this.#internals.ids.parse(claimed) !== id
    if (isOther(userId, identity.userId) || isOther(clubId, identity.tenantId)) {
      throw new RealtimeError('RT_IDENTITY_MISMATCH')
    }
    return identity
  }

  #pong (slot: ReplySlot, id: FrameId | undefined): void {
    const pong: Pong = { timestamp: toIso(this.#internals.clock.now()) }
    slot.fill(encodeFrame(id === undefined ? 'pong' : 'ack', pong, id))
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
    if (!isLater(ack)) return reply(ack)
    ack.later.then((value) => {
      // The acks of what came in one statement leave as one write.
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
    // An error of the suite's own was logged where it was made.
    if (error !== err) this.#log.error({ err }, 'frame failed')
    return error
  }
}

const isLater = (ack: unknown): ack is { later: Promise<unknown> } =>
  typeof ack === 'object' && ack !== null && 'later' in ack && ack.later instanceof Promise

/** A live socket stays what it is when new credentials are bad, but not when they are another user's, banned or revoked. */
function endsSocket ({ code }: RealtimeError, renewing: boolean): boolean {
  if (code === 'RT_IDENTITY_MISMATCH' || code === 'RT_BANNED' || code === 'RT_TOKEN_REVOKED') return true
  return !renewing && (code === 'RT_UNAUTHENTICATED' || code === 'RT_LIMIT_EXCEEDED' || code === 'RT_TOKEN_EXPIRED' || code === 'RT_UNAVAILABLE' || code === 'RT_INTERNAL')
}

/** What the client should do: come back later, stay away, or get a new token first. */
function closeCodeFor ({ code }: RealtimeError): number {
  if (code === 'RT_STORAGE_UNAVAILABLE' || code === 'RT_LIMIT_EXCEEDED' || code === 'RT_INTERNAL' || code === 'RT_UNAVAILABLE') return CloseCode.overloaded
  if (code === 'RT_RATE_LIMITED') return CloseCode.flooding
  return code === 'RT_BANNED' ? CloseCode.forbidden : CloseCode.unauthenticated
}
