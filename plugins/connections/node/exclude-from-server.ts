import type { WebSocket } from 'ws'

/**
 * Removes a WebSocket from the list of its server.
 *
 * Reaches into @fastify/websocket, which closes every socket of that list in its `preClose` hook. This plugin closes its own
 * sockets, slowly and with a code that tells the client to reconnect. Serves no bench row. If the socket is not in the list,
 * nothing happens.
 */
export function excludeFromServer (server: { clients: Set<WebSocket> }, socket: WebSocket): void {
  server.clients.delete(socket)
}
