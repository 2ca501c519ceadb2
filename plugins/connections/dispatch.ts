import { EventEmitter } from 'node:events'
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'

/** Marks fastify-realtime's own listeners to upgrades. */
const OWN = Symbol('own')

export const asOwnListener = <Listener extends (...args: never[]) => void>(listener: Listener): Listener => Object.assign(listener, { [OWN]: true })

/** Whether the upgrades of a server have other listeners than fastify-realtime's. */
export const othersListen = (server: Server): boolean => server.listeners('upgrade').some((listener) => !(OWN in listener))

/** Dispatches an upgrade; false: it is not for the WebSockets of this app. */
export type Dispatch = (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean

/** A server for @fastify/websocket that only emits the upgrades dispatched by {@link dispatchTo}: it uses the server as an emitter only. */
export const upgradeSource = (): Server => new EventEmitter() as Server

/**
 * With a listener for upgrades, Node no longer handles requests with an `Upgrade` header itself. Listening must not change the
 * rest of the app: requests that offer another protocol, as Java's HTTP client does with `h2c`, are handled as before, and
 * servers of other libraries on the same port keep their paths.
 */
export const dispatchTo = (source: EventEmitter, fastify: FastifyInstance): Dispatch => (request, socket, head) => {
  const { server } = fastify
  const isShared = othersListen(server)
  if (isShared && fastify.findRoute({ method: 'GET', url: pathOf(request), constraints: constraintsOf(request) }) === null) return false
  // @fastify/websocket does not listen while it closes: Fastify responds that the server is closing.
  if (!isWebSocket(request) || source.listenerCount('upgrade') === 0) {
    if (!isShared) asRequest(server, request, socket, head)
    return false
  }
  source.emit('upgrade', request, socket, head)
  return true
}

const isWebSocket = ({ headers: { upgrade } }: IncomingMessage): boolean => upgrade?.toLowerCase() === 'websocket'

/** The constraints that Fastify supports by default. */
const constraintsOf = ({ headers }: IncomingMessage): Record<string, unknown> => ({ host: headers.host, version: headers['accept-version'] })

const pathOf = ({ url = '/' }: IncomingMessage): string => url.split('?', 1)[0] ?? '/'

/** Makes the server read the request again, without the offered protocol. */
export function asRequest (server: Server, { method, url, httpVersion, rawHeaders }: IncomingMessage, socket: Duplex, head: Buffer): void {
  const lines = [`${method} ${url} HTTP/${httpVersion}`]
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = rawHeaders.slice(i, i + 2)
    if (/^(upgrade|http2-settings)$/i.test(name)) continue
    const kept = /^connection$/i.test(name)
      ? value.split(',').map((option) => option.trim()).filter((option) => !/^(upgrade|http2-settings)$/i.test(option)).join(', ')
      : value
    if (kept !== '' || value === '') lines.push(`${name}: ${kept}`)
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]))
  server.emit('connection', socket)
}
