import { createClient } from 'fastify-realtime-client'
import { form, input, name, showMembers, showMessage, showState, showTyping } from '../ui.js'

const channel = 'room.lobby'
const client = createClient({ baseUrl: '/api/websocket', token: name })
const members = new Set()

client.on('connected', () => { showState('connected') })
client.on('disconnected', () => { showState('connecting') })
client.on('subscribed', (answer) => {
  if (answer.channel !== channel) return
  members.clear()
  changeMembers(answer.members, [])
})
client.on('channel:members', ({ joined = [], left = [] }) => { changeMembers(joined, left) })
client.on('message:group', ({ userId, message }) => { showMessage(userId, message) })
client.on('user:typing', ({ userId, isTyping }) => { showTyping(userId, isTyping) })

function changeMembers (joined, left) {
  for (const { userId } of joined) members.add(userId)
  for (const userId of left) members.delete(userId)
  showMembers([...members])
}

await client.subscribe(channel)
input.addEventListener('input', () => { client.recordTyping(channel, true, { channel }) })
form.addEventListener('submit', async () => {
  const message = input.value
  await client.send('message:group', { channel, message, conversationId: channel })
  showMessage(name, message)
})
