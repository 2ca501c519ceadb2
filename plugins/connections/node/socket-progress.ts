import type { Socket } from 'node:net'

/**
 * A number that changes when the kernel accepts bytes that were waiting in a socket, and does not change when more are written.
 *
 * Reaches into Node: `socket._handle.writeQueueSize`, the bytes of the current write that the kernel has not accepted. A stream
 * counts a write only when it is complete, so without it a client that reads one large write slowly would be closed as stuck.
 * Serves no bench row. If the field is missing, only complete writes count.
 */
export function progressOf (socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle')
  const queued: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'writeQueueSize') : undefined
  return socket.bytesWritten - socket.writableLength - (typeof queued === 'number' ? queued : 0)
}
