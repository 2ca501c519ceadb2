// Bare @fastify/websocket, without anything on top: what a connection costs.
import websocket from '@fastify/websocket'
import Fastify from 'fastify'

const app = Fastify()
await app.register(websocket)
app.get('/', { websocket: true }, (socket) => {
  socket.on('message', () => socket.send('j'))
})
await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`listening on ${app.server.address().port}`)
