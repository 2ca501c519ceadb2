import type { ServerResponse } from 'node:http'
import { Socket } from 'node:net'

const queued = new WeakMap<Socket, Set<ServerResponse>>()

/**
 * A response that waits behind another one of its connection (HTTP/1.1 pipelining) is destroyed when the connection closes. Node
 * emits nothing on it then, because it has no socket yet: a stream would never end.
 */
export function closeWithConnection (response: ServerResponse, connection: unknown): void {
  if (!(connection instanceof Socket) || response.socket !== null) return
  let responses = queued.get(connection)
  if (responses === undefined) {
    responses = new Set()
    queued.set(connection, responses)
    connection.once('close', closeAll)
  }
  responses.add(response)
  response.once('close', () => responses.delete(response))
}

function closeAll (this: Socket): void {
  for (const response of queued.get(this) ?? []) {
    response.destroy()
    // Node emits it on responses that have a socket.
    if (!response.closed) response.emit('close')
  }
}
