import { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import { releaseResponse } from './release-response.js'

/**
 * Sends the response to an upgrade and everything written in the same turn as one write: the `authenticated` frame too, if the
 * host authenticates synchronously. Nothing is held back for longer than this turn.
 *
 * Relies on Node and `ws` writing the `101` to this very socket, by documented methods of `net.Socket`. Serves the bench row
 * "connect". Other streams, as of `injectWS`, are not corked.
 */
export function corkUpgrade (socket: unknown, reply: FastifyReply): void {
  if (!(socket instanceof Socket)) return
  socket.cork()
  queueMicrotask(() => {
    process.nextTick(() => {
      socket.uncork()
      releaseResponse(reply, socket)
    })
  })
}
