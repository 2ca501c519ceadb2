import { Socket } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RawData, WebSocket } from 'ws'
import { bearerToken } from '../../lib/access.js'
import type { Realtime } from '../../lib/core.js'
import { CloseCode, SOCKET_PATH } from '../../lib/protocol.js'
import { Connection } from './connection.js'
import type { ClientDescription, Connections } from './connections.js'
import type { FrameGate } from './frames.js'
import type { ConnectionSettings } from './options.js'
import { isAllowedOrigin } from './origin.js'
import type { Supervisor } from './supervisor.js'
import { readUserAgent } from './user-agent.js'

export interface SocketRouteParts {
  realtime: Realtime
  settings: ConnectionSettings
  connections: Connections
  gate: FrameGate
  supervisor: Supervisor
}

/** `GET {prefix}/ws`: the only place where sockets come in. */
export function socketRoute (fastify: FastifyInstance, { realtime, settings, connections, gate, supervisor }: SocketRouteParts): void {
  fastify.get(realtime.settings.prefix + SOCKET_PATH, {
    websocket: true,
    onRequest: (request, reply, done) => {
      if (supervisor.draining) {
        void reply.code(503).header('retry-after', 1).send({ message: 'This node restarts' })
        return
      }
      if (request.ws) answerAtOnce(request.raw.socket)
      done()
    }
  }, (socket: WebSocket, request: FastifyRequest) => {
    // This plugin closes its own sockets, with a code that says why, before @fastify/websocket closes all it knows.
    fastify.websocketServer.clients.delete(socket)
    if (!isAllowedOrigin(request, settings.allowedOrigins)) {
      socket.close(CloseCode.forbidden, 'origin not allowed')
      return
    }
    const client = describeClient(request)
    // Frames go straight to the TCP socket where nothing sits between: not with compression, not in injectWS.
    const raw = request.raw.socket instanceof Socket && !settings.perMessageDeflate ? request.raw.socket : null
    const connection = new Connection(socket, raw, realtime, settings)
    supervisor.watch(connection)

    // Attached before anything asynchronous begins: frames that come at once wait in order behind the authentication.
    socket.on('message', (data: RawData, isBinary: boolean) => {
      connection.heard()
      const size = Buffer.isBuffer(data) ? data.length : 0
      if (size > settings.maxFrameSize) connection.close(CloseCode.tooBig, 'frame too big')
      else if (connection.phase.name !== 'closing') gate.receive(connection, isBinary ? null : textOf(data), request, client)
    })
    socket.on('pong', () => { connection.heard() })
    socket.on('close', () => {
      supervisor.forget(connection)
      const session = connection.end()
      if (session !== null) connections.closed(connection, session, client)
    })
    void connection.inOrder(async () => { await gate.authenticateUpgrade(connection, tokenOf(request), request, client) })
  })
}

/**
 * The answer to the upgrade and what follows it at once leave in one write: the `authenticated` frame where the host knows
 * its users by heart. Held back is nothing for which anything is waited.
 */
function answerAtOnce (socket: Socket): void {
  if (!(socket instanceof Socket)) return
  socket.cork()
  queueMicrotask(() => { process.nextTick(() => { socket.uncork() }) })
}

/** Not kept with the connection, as a variable beside its handlers would be. */
const tokenOf = ({ headers }: FastifyRequest): string | undefined =>
  bearerToken(headers.authorization) ?? subprotocolToken(headers['sec-websocket-protocol'])

/** The pair `bearer, <token>` of Sec-WebSocket-Protocol, which a browser can send where it cannot set a header. */
function subprotocolToken (header: string | undefined): string | undefined {
  const [scheme, token] = (header ?? '').split(',').map((part) => part.trim())
  return scheme === 'bearer' && token !== undefined && token !== '' ? token : undefined
}

const textOf = (data: RawData): string => Buffer.isBuffer(data) ? data.toString() : ''

function describeClient (request: FastifyRequest): ClientDescription {
  const address = request.raw.socket instanceof Socket ? request.ip : null
  const { browser, device } = readUserAgent(request.headers['user-agent'])
  // No spread: it would give each client a hidden class of its own, for as long as it stays.
  return { browser, device, ipAddress: address }
}
