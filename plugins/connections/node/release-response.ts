import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'

/**
 * Releases the HTTP response of an upgraded socket, which was never written, and would be kept as long as the socket.
 *
 * Reaches into Node: `ServerResponse.detachSocket`, undocumented. Serves the bench row "idle memory": together with
 * `releaseHead` 1.4 KiB per connection. Without it the response stays in memory.
 */
export function releaseResponse ({ raw, sent }: FastifyReply, socket: Socket): void {
  const detach: unknown = raw.detachSocket
  if (typeof detach === 'function' && sent && !raw.headersSent && raw.socket === socket) raw.detachSocket(socket)
}
