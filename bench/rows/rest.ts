import { Agent, request } from 'node:http'
import { realtime, tokenOf, type Dialect, type User } from '../dialects.js'
import type { RawClient } from '../raw-client.js'
import { JWT_SECRET, startPeer, startRealtime, type Target } from '../servers.js'

export const USERS = 400
const AT_ONCE = 16
/** Before what is measured, until the code is compiled: a server runs for weeks. */
const WARM_UP = 4000

export interface Call { method: 'GET' | 'POST', path: string, body?: object }

const PREFIX = '/api/websocket'
export const calls = {
  'presence update': { method: 'POST', path: `${PREFIX}/presence/update`, body: { status: 'busy', device: 'web' } },
  typing: { method: 'POST', path: `${PREFIX}/typing`, body: { conversation_id: 'bench', channel: 'group.bench', is_typing: true } },
  'online list': { method: 'GET', path: `${PREFIX}/online-users?limit=100` }
} as const satisfies Record<string, Call>

/** Each user is in a club of 100, whose list fills one page. */
const userOf = (i: number): User => ({ id: 1 + i, club: 1 + Math.floor(i / 100) })
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })

/** Requests for each second of processor time, of fastify-realtime alone. */
export async function ownRequests (dialect: Dialect, call: Call, { count, sockets }: { count: number, sockets: number }, env: Record<string, string>): Promise<number> {
  const host = await dialect.start({ JWT_SECRET, ...env })
  const online: RawClient[] = []
  const user = (i: number): User => {
    const { id, club } = userOf(i)
    return dialect.idOf === undefined ? { id, club } : { id: dialect.idOf(Number(id)), club: dialect.idOf(Number(club)) }
  }
  try {
    for (let i = 0; i < sockets; i++) online.push(await dialect.open(host.port, userOf(i)))
    return await perSecond(host, call, count, user)
  } finally {
    for (const client of online) client.close()
    await host.stop()
  }
}

/** Requests for each second of processor time: fastify-realtime's, and those of a bare route that answers the same bytes, also with fastify-realtime's guards. */
export async function restRequests (call: Call, { count, sockets }: { count: number, sockets: number }, env: Record<string, string>): Promise<{ 'fastify-realtime': number, 'bare': number, 'bare, guarded': number }> {
  const host = await startRealtime(env)
  const online: RawClient[] = []
  try {
    for (let i = 0; i < sockets; i++) online.push(await realtime.open(host.port, userOf(i)))
    const body = await send(host.port, call, userOf(0))
    const answers = { JWT_SECRET, ANSWERS: JSON.stringify([{ method: call.method, path: call.path.split('?')[0], body }]) }
    const [bare, guarded] = await Promise.all([startPeer('bare-routes', answers), startPeer('bare-routes', { ...answers, GUARDS: '1' })])
    try {
      return {
        'fastify-realtime': await perSecond(host, call, count), 'bare': await perSecond(bare, call, count), 'bare, guarded': await perSecond(guarded, call, count)
      }
    } finally {
      await Promise.all([bare.stop(), guarded.stop()])
    }
  } finally {
    for (const client of online) client.close()
    await host.stop()
  }
}

/** Requests for each second of the server's processor time. */
export async function perSecond (server: Pick<Target, 'port' | 'cpu'>, call: Call, count: number, user = userOf): Promise<number> {
  await sendMany(server.port, call, WARM_UP, user)
  const before = server.cpu()
  await sendMany(server.port, call, count, user)
  return count / ((server.cpu() - before) / 1e6)
}

/** Requests of the users in turn, some at a time. */
export async function sendMany (port: number, call: Call, count: number, user = userOf): Promise<void> {
  let next = 0
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (next < count) await send(port, call, user(next++ % USERS))
  }))
}

const tokens = new Map<User['id'], string>()

async function send (port: number, { method, path, body }: Call, user: User): Promise<string> {
  const token = tokens.get(user.id) ?? tokenOf(user)
  tokens.set(user.id, token)
  const text = body === undefined ? undefined : JSON.stringify(body)
  return await new Promise((resolve, reject) => {
    const sent = request({
      port, host: '127.0.0.1', method, path, agent,
      headers: { authorization: `Bearer ${token}`, ...text === undefined ? {} : { 'content-type': 'application/json', 'content-length': text.length } }
    }, (response) => {
      let answer = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { answer += chunk }).on('end', () => {
        if (response.statusCode === 200) resolve(answer)
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${answer}`))
      })
    })
    sent.on('error', reject)
    sent.end(text)
  })
}
