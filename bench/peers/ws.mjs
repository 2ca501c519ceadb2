// Plain `ws`: whoever says `j` joins the room; anything else goes to everyone else in it.
import { WebSocketServer } from 'ws'

const room = new Set()
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false }, () => {
  console.log(`listening on ${server.address().port}`)
})
server.on('connection', (socket) => {
  socket.on('message', (data) => {
    const text = data.toString()
    if (text === 'j') {
      room.add(socket)
      socket.send('j')
      return
    }
    for (const member of room) if (member !== socket) member.send(text)
  })
  socket.on('close', () => room.delete(socket))
})
