import type { Duplex } from 'node:stream'

/**
 * Resolves like `work`, which an upgrade waits for. Nothing reads the socket meanwhile, so a peer that disconnects would go
 * unnoticed: this watches for its end without consuming any bytes, and then destroys the socket.
 */
export async function whileConnected<T> (socket: Duplex, work: Promise<T>): Promise<T> {
  const look = (): void => { if (socket.readableLength === 0) socket.read() }
  const leave = (): void => { socket.destroy() }
  socket.on('readable', look).on('end', leave)
  try {
    return await work
  } finally {
    socket.off('readable', look).off('end', leave)
  }
}
