import { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'

/**
 * The response that is being written to a socket; null if there is none.
 *
 * Reaches into Node: `socket._httpMessage`. Node has no public way from a socket to its response, which is needed to close the
 * socket of a refused upgrade, and to know which connections of a closing server are idle. Serves no bench row. If the field
 * is missing, no response is found, and such sockets stay open until the deadline of `app.close()`.
 */
export function responseOn (socket: Duplex): ServerResponse | null {
  const response: unknown = Reflect.get(socket, '_httpMessage')
  return response instanceof ServerResponse ? response : null
}
