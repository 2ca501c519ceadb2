import { globals } from './globals.js'
import type { Arrived, Link, Wire } from './link.js'
import type { Core } from './state.js'

/** A WebSocket that carries the link. */
export function openSocket (core: Core, link: Link, onOpen: () => void): Wire {
  const Socket = core.WebSocket ?? globals.WebSocket
  if (!Socket) throw new Error('pass the option WebSocket')
  const socket = new Socket(core.url('/ws').replace('http', 'ws'))
  socket.addEventListener('open', onOpen)
  // If a policy of the page forbids the socket, `error` is not followed by `close`. Otherwise `close` has no more information.
  socket.addEventListener('error', link.drop)
  socket.addEventListener('close', ({ code, reason }) => { link.closeBy(code, reason) })
  socket.addEventListener('message', ({ data }) => {
    let frame: Arrived | null
    try {
      frame = JSON.parse(String(data)) as Arrived | null
    } catch {
      return // Not a frame.
    }
    link.take(frame)
  })
  return socket
}
