// Bun's native server with its own pub/sub.
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch: (request, server) => server.upgrade(request) ? undefined : new Response('no'),
  websocket: {
    message (socket, text) {
      if (text === 'j') {
        socket.subscribe('room')
        socket.send('j')
      } else socket.publish('room', text)
    }
  }
})
console.log(`listening on ${server.port}`)
