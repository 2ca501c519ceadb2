// What a host would write by hand, with nothing around it: Fastify, a verified JWT, each connection in Redis while it lasts and
// in a table of MariaDB, one Redis topic per channel. No rights, limits, log, recovery, grace or cleanup after a crash.
import { randomUUID } from 'node:crypto'
import websocket from '@fastify/websocket'
import { createVerifier } from 'fast-jwt'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { createPool } from 'mysql2/promise'

const verify = createVerifier({ key: process.env.JWT_SECRET })
const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
const subscriber = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
const pool = process.env.DATABASE_URL ? createPool(process.env.DATABASE_URL) : null
await pool?.query('create table if not exists floor_connections (id varchar(64) primary key, club_id bigint, user_id bigint, channels text, connected_at datetime(3))')
const members = new Map()
let rows = new Map()
setInterval(() => {
  if (rows.size === 0) return
  const written = [...rows.values()]
  rows = new Map()
  pool.query('replace into floor_connections (id, club_id, user_id, channels, connected_at) values ?', [written])
}, 500)

async function join (socket, names) {
  const added = names.filter((name) => !members.has(name))
  for (const name of names) {
    const found = members.get(name)
    if (found === undefined) members.set(name, new Set([socket]))
    else found.add(socket)
    socket.channels.push(name)
  }
  if (added.length > 0) await subscriber.subscribe(...added)
}

const app = Fastify()
await app.register(websocket)
app.get('/api/websocket/ws', { websocket: true }, (socket, { headers }) => {
  const { sub, club } = verify(headers.authorization.slice(7))
  const id = randomUUID()
  socket.channels = []
  const record = () => { if (pool !== null) rows.set(id, [id, club, Number(sub), JSON.stringify(socket.channels), new Date()]) }
  Promise.all([
    redis.hset(`connections:${club}`, id, JSON.stringify({ user: sub, at: Date.now() })),
    redis.zadd(`online:${club}`, sub, sub),
    redis.sadd(`of:${club}:${sub}`, id),
    join(socket, [`${club}/private-user.${sub}`])
  ]).then(() => {
    record()
    socket.send(JSON.stringify({ event: 'authenticated', data: { connectionId: id } }))
  })
  socket.on('message', async (text) => {
    const { id, data } = JSON.parse(text)
    await join(socket, data.channels.map(({ channel }) => `${club}/${channel}`))
    record()
    socket.send(JSON.stringify({ event: 'ack', id, data: { channels: data.channels } }))
  })
  socket.on('close', () => {
    const gone = socket.channels.filter((name) => {
      const found = members.get(name)
      found.delete(socket)
      return found.size === 0 && members.delete(name)
    })
    redis.hdel(`connections:${club}`, id)
    redis.zrem(`online:${club}`, sub)
    redis.srem(`of:${club}:${sub}`, id)
    if (gone.length > 0) subscriber.unsubscribe(...gone)
  })
})
console.log(`listening on ${new URL(await app.listen({ port: 0, host: '127.0.0.1' })).port}`)
