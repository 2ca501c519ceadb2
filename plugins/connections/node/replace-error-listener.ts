import type { WebSocket } from 'ws'

/**
 * Replaces the `error` listener of a WebSocket.
 *
 * Reaches into @fastify/websocket, whose listener is a closure that keeps the whole reply to the upgrade in memory as long as
 * the socket. Serves the bench row "idle memory". If it attaches no listener, this one is only added.
 */
export function replaceErrorListener (socket: WebSocket, onError: (this: WebSocket, err: Error) => void): void {
  socket.removeAllListeners('error').on('error', onError)
}
