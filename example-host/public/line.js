// The connection to the server: it can be interrupted by hand, and reports all traffic.

/** Milliseconds for which a dropped line stays down. */
export const DOWN = 4000

/** `report` is called with `{ way, frame }`, `{ note }` or `{ request }`. `WebSocket` and `fetch` are options of the client. */
export function createLine (report) {
  let socket = null
  let isDown = false

  class Line extends WebSocket {
    constructor (url) {
      if (isDown) throw new Error('The line is down')
      super(url)
      socket = this
      this.addEventListener('open', () => report({ note: 'socket opened' }))
      this.addEventListener('message', ({ data }) => report({ way: 'in', frame: JSON.parse(data) }))
      this.addEventListener('close', ({ code, reason }) => report({ note: `socket closed: ${code} ${reason}` }))
    }

    send (text) {
      report({ way: 'out', frame: JSON.parse(text) })
      super.send(text)
    }
  }

  return {
    WebSocket: Line,
    async fetch (url, init) {
      if (isDown) throw new TypeError('The line is down')
      const response = await fetch(url, init)
      report({ request: `${init?.method ?? 'GET'} ${new URL(url, location.href).pathname.replace('/api/websocket', '')} ${response.status}` })
      return response
    },
    /** Blocks both directions for a while; `onUp` is called when the line works again. */
    drop (onUp) {
      if (isDown) return
      isDown = true
      socket?.close()
      setTimeout(() => {
        isDown = false
        onUp()
      }, DOWN)
    }
  }
}
