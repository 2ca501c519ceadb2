import type { Duplex } from 'node:stream'

/**
 * The outcome of `work`, for which an upgrade waits. Nobody reads its socket meanwhile, so that nobody would notice that the
 * peer is gone: this looks, without taking anything from what comes, and destroys the socket then.
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
