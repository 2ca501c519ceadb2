import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { promisify } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

/** Clients that speak to a host by plain TCP, and do not do what clients should. */

interface Listening { app: Pick<FastifyInstance, 'server' | 'close'>, url: string }

/** A TCP connection that never closes by itself, whatever its server does. */
export async function tcpTo (t: Test, { url }: Pick<Listening, 'url'>): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connectTcp({ host: hostname.replace(/[[\]]/g, ''), port: Number(port), allowHalfOpen: true })
  t.teardown(() => { socket.destroy() })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

export interface UpgradeRequest { method?: string, version?: string, key?: string, headers?: readonly string[] }

export function upgradeRequest (path: string, { method = 'GET', version = '13', key = Buffer.alloc(16).toString('base64'), headers = [] }: UpgradeRequest = {}): string {
  return [
    `${method} ${path} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: Upgrade', 'Upgrade: websocket', `Sec-WebSocket-Version: ${version}`,
    `Sec-WebSocket-Key: ${key}`, ...headers, '', ''
  ].join('\r\n')
}

/** The open TCP connections of a host. */
export const socketsOf = async ({ app: { server } }: Pick<Listening, 'app'>): Promise<number> => await promisify(server.getConnections.bind(server))()

/** How long `app.close()` takes. */
export async function timeToClose ({ app }: Pick<Listening, 'app'>): Promise<number> {
  const began = performance.now()
  await app.close()
  return performance.now() - began
}
