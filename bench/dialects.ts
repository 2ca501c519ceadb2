import { createHmac } from 'node:crypto'
import { frameOf, RawClient } from './raw-client.js'
import { JWT_SECRET, startPeer, startRealtime, type Target } from './servers.js'

export interface User { id: number | string, club: number | string }

/** How one speaks to a server: the same work in each one's own words. */
export interface Dialect {
  name: string
  start (env?: Record<string, string>): Promise<Target>
  /** Opens a client, authenticated where the server does that. */
  open (port: number, user: User, localAddress?: string): Promise<RawClient>
  /** Puts it into the room of the fan-out rows. */
  join (client: RawClient): Promise<void>
  /** A message to everyone else in the room. */
  message (text: string): Buffer
  /** The id that stands for a number, where ids are no numbers. */
  idOf? (n: number): string
}

const base64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const HEADER = base64({ alg: 'HS256', typ: 'JWT' })

/** Signed here: what it costs must not depend on a library of one of the peers. */
export function tokenOf ({ id, club }: User): string {
  const body = `${HEADER}.${base64({ sub: String(id), club, name: `User ${id}`, exp: 4_000_000_000 })}`
  return `${body}.${createHmac('sha256', JWT_SECRET).update(body).digest('base64url')}`
}

const JOIN = frameOf('j')
const plain = (name: string): Dialect => ({
  name,
  start: async (env) => await startPeer(name, env),
  open: async (port, _user, localAddress) => await RawClient.open(port, '/', { localAddress }),
  join: async (client) => {
    client.send(JOIN)
    await client.next((text) => text === 'j')
  },
  message: frameOf
})

export const ws = plain('ws')
export const bun = plain('bun')
export const fastifyWs = plain('fastify-ws')

export const socketIo: Dialect = {
  name: 'socket-io',
  start: async (env) => await startPeer('socket-io', env),
  open: async (port, user, localAddress) => {
    const client = await RawClient.open(port, '/socket.io/?EIO=4&transport=websocket', { localAddress })
    const connected = client.next((text) => text.startsWith('40'))
    client.send(frameOf(`40${JSON.stringify({ token: tokenOf(user) })}`))
    await connected
    return client
  },
  join: async (client) => {
    client.send(frameOf('42["j"]'))
    await client.next((text) => text === '42["j"]')
  },
  message: (text) => frameOf(`42${JSON.stringify(['m', text])}`)
}

export const CHANNEL = 'group.bench'

export const realtime: Dialect = {
  name: 'fastify-realtime',
  start: startRealtime,
  open: async (port, user, localAddress) => {
    const client = await RawClient.open(port, '/api/websocket/ws', {
      headers: { authorization: `Bearer ${tokenOf(user)}` }, localAddress
    })
    const refused = new Promise<never>((_resolve, reject) => { client.onClose = (code) => { reject(new Error(`refused with ${code}`)) } })
    await Promise.race([client.next((text) => text.startsWith('{"event":"authenticated"')), refused])
    client.onClose = null
    return client
  },
  join: async (client) => {
    client.send(frameOf(JSON.stringify({ event: 'subscribe', id: 1, data: { channel: CHANNEL } })))
    await client.next((text) => text.startsWith('{"event":"ack"'))
  },
  message: (message) => frameOf(JSON.stringify({ event: 'message:group', data: { channel: CHANNEL, message, conversationId: 'bench' } }))
}

/** By hand, without any promise: see bench/peers/floor.mjs. */
export const floor: Dialect = { ...realtime, name: 'floor', start: async (env) => await startPeer('floor', { JWT_SECRET, ...env }) }

/** fastify-realtime with members that read server-sent events; publishers, whose ids begin at 100,000, have sockets. */
export const realtimeStreams: Dialect = {
  ...realtime,
  name: 'fastify-realtime, streams',
  open: async (port, user, localAddress) => Number(user.id) >= 100_000
    ? await realtime.open(port, user, localAddress)
    : await openStream(port, user, `?channels=${CHANNEL}`, localAddress),
  join: async () => {}
}

/** The same without the room. */
export const idleStreams: Dialect = {
  ...realtimeStreams,
  open: async (port, user, localAddress) => await openStream(port, user, '', localAddress)
}

const openStream = async (port: number, user: User, query: string, localAddress?: string): Promise<RawClient> =>
  await RawClient.stream(port, `/api/websocket/stream${query}`, { headers: { authorization: `Bearer ${tokenOf(user)}` }, localAddress })

const uuidOf = (n: number): string => `3f2504e0-4f89-41d3-9a0c-${n.toString(16).padStart(12, '0')}`
const withUuids = ({ id, club }: User): User => ({ id: uuidOf(Number(id)), club: uuidOf(Number(club)) })

/** fastify-realtime where tenants and users have UUIDs. */
export const realtimeWithUuids: Dialect = {
  ...realtime,
  name: 'fastify-realtime, UUIDs',
  start: async (env) => await realtime.start({ IDS: 'string', ...env }),
  open: async (port, user, localAddress) => await realtime.open(port, withUuids(user), localAddress),
  idOf: uuidOf
}
