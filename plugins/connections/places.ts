import { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errorBody, RealtimeError } from '../../lib/errors.js'
import type { Internals } from '../../lib/internals.js'
import { isRefusal, type Admission, type Place } from './admission.js'
import { Connection } from './connection.js'

/** The places of this node's sockets. They belong to the TCP sockets, so that a refused upgrade gives its place back too. */
export class Places {
  readonly #admission: Admission
  readonly #places = new WeakMap<Socket, Place>()
  // One function for all sockets: a closure for each would stay as long as the socket does.
  readonly #onClose: (this: Socket) => void

  constructor (admission: Admission, { bus }: Pick<Internals, 'bus'>) {
    this.#admission = admission
    const places = this.#places
    this.#onClose = function () { places.get(this)?.release() }
    bus.on('opened', (connection) => {
      if (connection instanceof Connection) places.get(connection.request.raw.socket)?.authenticated()
    })
  }

  /** Takes a place for an upgrade. False: there was none, and the request is answered. */
  admit (request: FastifyRequest, reply: FastifyReply): boolean {
    const { socket } = request.raw
    // A test's stream comes from nowhere.
    if (!(socket instanceof Socket)) return true
    const outcome = this.#admission.admit(request.ip)
    if (isRefusal(outcome)) {
      const { status, retryAfter, message } = outcome
      const error = new RealtimeError(status === 429 ? 'RT_RATE_LIMITED' : 'RT_UNAVAILABLE', message)
      void reply.code(status).header('retry-after', retryAfter).send(errorBody(error))
      return false
    }
    this.#places.set(socket, outcome)
    socket.once('close', this.#onClose)
    return true
  }
}
