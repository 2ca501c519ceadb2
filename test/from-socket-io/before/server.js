import { createServer } from 'node:http'
import { Server } from 'socket.io'

const http = createServer()
const io = new Server(http, { connectionStateRecovery: {} })

io.use((socket, next) => {
  socket.data.name = socket.handshake.auth.token
  next(socket.data.name ? undefined : new Error('unauthorized'))
})

async function sendMembers (room) {
  const sockets = await io.in(room).fetchSockets()
  io.to(room).emit('members', sockets.map((socket) => socket.data.name))
}

io.on('connection', (socket) => {
  socket.on('join', async (room, done) => {
    await socket.join(room)
    await sendMembers(room)
    done()
  })
  socket.on('message', ({ room, text }, done) => {
    socket.to(room).emit('message', { from: socket.data.name, text })
    done()
  })
  socket.on('typing', (room, isTyping) => { socket.to(room).volatile.emit('typing', { from: socket.data.name, isTyping }) })
  socket.on('disconnecting', () => {
    for (const room of socket.rooms) setImmediate(sendMembers, room)
  })
})

http.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => { console.log(`http://127.0.0.1:${http.address().port}`) })
