// Socket.IO 4.8, WebSocket transport only; with REDIS_URL its Redis adapter; with JWT_SECRET it verifies a token.
import { createServer } from 'node:http'
import { createAdapter } from '@socket.io/redis-adapter'
import { createVerifier } from 'fast-jwt'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'

const server = createServer()
const io = new Server(server, { transports: ['websocket'], serveClient: false })
if (process.env.REDIS_URL) {
  const client = new Redis(process.env.REDIS_URL)
  io.adapter(createAdapter(client, client.duplicate()))
}
if (process.env.JWT_SECRET) {
  const verify = createVerifier({ key: process.env.JWT_SECRET })
  io.use((socket, next) => {
    try {
      socket.data.user = verify(socket.handshake.auth.token)
      next()
    } catch (err) {
      next(err)
    }
  })
}
io.on('connection', (socket) => {
  socket.on('j', () => {
    socket.join('room')
    socket.emit('j')
  })
  socket.on('js', (rooms) => {
    socket.join(rooms)
    socket.emit('js')
  })
  socket.on('m', (data) => { socket.to('room').emit('m', data) })
})
server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`))
