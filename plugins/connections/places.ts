import type { EventEmitter } from 'node:events'
import { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errorBody, RealtimeError } from '../../lib/errors.js'
import type { Internals } from '../../lib/internals.js'
import { isRefusal, type Admission, type Place } from './admission.js'
import { Connection } from './connection.js'

/**
 * The places of this node's sockets and streams. They belong to the TCP sockets of upgrades, so that a refused one gives its place
 * back too, and to the responses of streams: a TCP socket may carry several.
 */
export class Places {
  readonly #admission: Admission
  readonly #places = new WeakMap<object, Place>()
  // One function for all sockets: a closure for each would stay as long as the socket does.
  readonly #onClose: (this: object) => void

  constructor (admission: Admission, { bus }: Pick<Internals, 'bus'>) {
    this.#admission = admission
    const places = this.#places
    this.#onClose = function () { places.get(this)?.release() }
    bus.on('opened', (connection) => {
      if (connection instanceof Connection) (places.get(connection.transport.source) ?? places.get(connection.request.raw.socket))?.authenticated()
    })
  }

  /** Takes a place for an upgrade, or for a stream, until `holder` closes. False: it is refused, and the response was sent. */
  admit (request: FastifyRequest, reply: FastifyReply, holder: EventEmitter = request.raw.socket): boolean {
    // A test's stream has no address.
    if (!(request.raw.socket instanceof Socket)) return true
    const outcome = this.#admission.admit(request.ip)
    if (isRefusal(outcome)) {
      const { status, retryAfter, message } = outcome
      const error = new RealtimeError(status === 429 ? 'RT_RATE_LIMITED' : 'RT_UNAVAILABLE', message)
      void reply.code(status).header('retry-after', retryAfter).send(errorBody(error))
      return false
    }
    this.#places.set(holder, outcome)
    holder.once('close', this.#onClose)
    return true
  }
}
