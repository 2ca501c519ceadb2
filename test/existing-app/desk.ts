import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { freshPrefix } from '../suites.js'
import { createDatabase } from '../servers.js'
import { TestClient } from '../../plugins/testing.js'
import { buildDesk, type DeskParts } from './app.js'
import { createTables, openDeskDatabase, type DeskDatabase } from './database.js'
import { addRealtime } from './realtime.js'

/** With fastify-realtime or without it. */
export type Variant = 'alone' | 'with fastify-realtime'

export interface Desk {
  app: FastifyInstance
  db: DeskDatabase
  url: string
}

/** The product on servers of the test, listening; closed with the test. */
export async function startDesk (t: Test, variant: Variant, options: Partial<DeskParts> = {}): Promise<Desk> {
  const database = await createDatabase(process.env.DATABASE_URL ?? '')
  const db = openDeskDatabase(database.url)
  const redis = new Redis(process.env.REDIS_URL ?? '')
  await createTables(db)
  const app = await buildDesk({ db, redis, ...options })
  t.teardown(async () => {
    await app.close()
    redis.disconnect()
    await db.destroy()
    await database.drop()
  })
  if (variant === 'with fastify-realtime') await addRealtime(app, { db, redis, options: { keyPrefix: freshPrefix() } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, db, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

export interface Answer { status: number, body: unknown, headers: Headers }

/** A request as a browser of this user sends it. */
export async function ask ({ url }: Desk, cookie: string | null, method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    headers: { ...cookie === null ? {} : { cookie }, ...body === undefined ? {} : { 'content-type': 'application/json' } },
    ...body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }
  })
  const text = await response.text()
  const isJson = /json/.test(response.headers.get('content-type') ?? '')
  return { status: response.status, body: isJson ? JSON.parse(text) as unknown : text, headers: response.headers }
}

/** Logs in; the session's cookie. */
export async function logIn (desk: Desk, name: string, company = 1): Promise<string> {
  const { headers } = await ask(desk, null, 'POST', '/login', { name, company })
  return (headers.get('set-cookie') ?? '').split(';')[0] ?? ''
}

export function socketTo ({ url }: Desk, path: string, headers: Record<string, string> = {}): WebSocket {
  return new WebSocket(url.replace(/^http/, 'ws') + path, { headers })
}

/** The status with which an upgrade is refused; 101 where it is let in. */
export async function upgradeStatus (desk: Desk, path: string, headers: Record<string, string> = {}): Promise<number> {
  const socket = socketTo(desk, path, headers)
  return await new Promise((resolve) => {
    socket.on('error', () => {})
    socket.once('open', () => { socket.terminate(); resolve(101) })
    socket.once('unexpected-response', (_request, response) => { response.destroy(); resolve(response.statusCode ?? 0) })
  })
}

/** A client of fastify-realtime with this session. */
export async function connect (desk: Desk, cookie: string): Promise<TestClient> {
  const client = new TestClient(socketTo(desk, '/api/websocket/ws', { cookie }))
  await once(client.socket, 'open')
  await client.next('authenticated')
  return client
}
