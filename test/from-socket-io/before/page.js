import { io } from 'socket.io-client'
import { form, input, name, showMembers, showMessage, showState, showTyping } from '../ui.js'

const room = 'room.lobby'
const socket = io({ auth: { token: name } })

socket.on('connect', () => {
  if (socket.recovered) showState('connected')
  else socket.emit('join', room, () => { showState('connected') })
})
socket.on('disconnect', () => { showState('connecting') })
socket.on('members', showMembers)
socket.on('message', ({ from, text }) => { showMessage(from, text) })
socket.on('typing', ({ from, isTyping }) => { showTyping(from, isTyping) })

let idle
const typing = (isTyping) => {
  clearTimeout(idle)
  if (isTyping) idle = setTimeout(typing, 5000, false)
  socket.volatile.emit('typing', room, isTyping)
}
input.addEventListener('input', () => { typing(true) })
form.addEventListener('submit', async () => {
  const text = input.value
  typing(false)
  await socket.emitWithAck('message', { room, text })
  showMessage(name, text)
})
