// What one would write first: Fastify and ws, one INSERT per message over a pool of the same size, then the ack.
// Without DATABASE_URL nothing is stored at all: what sockets and JSON alone allow.
import websocket from '@fastify/websocket'
import { createVerifier } from 'fast-jwt'
import Fastify from 'fastify'
import { createPool } from 'mysql2/promise'

const pool = process.env.DATABASE_URL ? createPool({ uri: process.env.DATABASE_URL, connectionLimit: 10 }) : null
let serial = 0
await pool?.query(`create table if not exists bench_messages (
  id bigint unsigned auto_increment primary key, tenant_id bigint unsigned not null, user_id bigint unsigned not null,
  channel varchar(255) not null, payload json not null, created_at datetime(3) not null default current_timestamp(3),
  key (tenant_id, channel, id))`)
const verify = createVerifier({ key: process.env.JWT_SECRET })
const users = new Map()
const app = Fastify()
await app.register(websocket)
app.get('/', { websocket: true }, (socket, request) => {
  const { sub } = verify(request.headers.authorization.slice(7))
  users.set(sub, socket)
  socket.send('j')
  socket.on('message', async (text) => {
    const { id, data } = JSON.parse(text)
    const payload = JSON.stringify({ senderId: Number(sub), ...data })
    const [{ insertId }] = pool === null ? [{ insertId: ++serial }] : await pool.execute('insert into bench_messages (tenant_id, user_id, channel, payload) values (?, ?, ?, ?)',
      [1, Number(sub), `private-user.${data.recipientId}`, payload])
    users.get(String(data.recipientId))?.send(JSON.stringify({ event: 'message:direct', data: { messageId: insertId, ...data } }))
    socket.send(JSON.stringify({ event: 'ack', id, data: { messageId: insertId } }))
  })
})
await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`listening on ${app.server.address().port}`)
