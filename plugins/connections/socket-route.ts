import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { RawData, WebSocket } from 'ws'
import { bearerToken } from '../../lib/access/access.js'
import { catchMaybe, isPromise, thenMaybe } from '../../lib/async/maybe-promise.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { ownScope } from '../../lib/plugin-kit/own-scope.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { SOCKET_PATH } from '../../lib/wire/protocol.js'
import { Connection, type ClientDescription } from './connection.js'
import type { Connections } from './connections.js'
import type { FramePipeline } from './frame-pipeline.js'
import { RawSocket } from './node/raw-socket.js'
import type { ConnectionSettings } from './options.js'
import { isAllowedOrigin } from './origin.js'
import type { Supervisor } from './supervisor.js'
import { readUserAgent } from './user-agent.js'
import { whileConnected } from './waiting-upgrade.js'

const NOTHING = Buffer.alloc(0)

export interface SocketRouteParts {
  internals: Internals
  settings: ConnectionSettings
  /** As `readOrigins` made them of the settings. */
  origins: ReadonlySet<string>
  connections: Connections
  pipeline: FramePipeline
  supervisor: Supervisor
  /** The sockets' server is this plugin's own, and so is what becomes of their errors. */
  ownServer: boolean
}

/** `GET {prefix}/ws`: the only place where sockets come in. */
export async function socketRoute (fastify: FastifyInstance, parts: SocketRouteParts): Promise<void> {
  await ownScope(fastify, parts.internals.settings.prefix, (scope) => { addRoute(scope, parts) })
}

function addRoute (scope: FastifyInstance, { internals, settings, origins, connections, pipeline, supervisor, ownServer }: SocketRouteParts): void {
  // Of all sockets, which are told apart by `this`: functions for each would stay with it as long as it is open.
  function onMessage (this: WebSocket, data: RawData, isBinary: boolean): void {
    const connection = supervisor.of(this)
    if (connection === undefined) return
    connection.noteActivity()
    const size = Buffer.isBuffer(data) ? data.length : 0
    if (size > settings.maxFrameSize) connection.close(CloseCode.tooBig, 'frame too big')
    else if (connection.phase.name !== 'closing') pipeline.receive(connection, isBinary ? null : textOf(data))
  }
  function onPong (this: WebSocket): void {
    supervisor.of(this)?.noteActivity()
  }
  function onError (this: WebSocket, err: Error): void {
    supervisor.of(this)?.request.log.debug({ err }, 'socket error')
  }
  function onClose (this: WebSocket): void {
    const connection = supervisor.of(this)
    if (connection === undefined) return
    supervisor.forget(this)
    internals.access.release(connection)
    const session = connection.end()
    if (session !== null) connections.onSocketClosed(connection, session)
  }

  /** Who asks for an upgrade, where that was asked before the answer. The answer is for this request alone. */
  const known = new WeakMap<FastifyRequest, () => Identity | null>()
  const refuseBanned = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    const failed = (err: unknown): void => {
      if (err instanceof RealtimeError && err.code === 'RT_BANNED') {
        const { statusCode, code, message } = err
        void reply.code(statusCode).send({ statusCode, code, error: 'Forbidden', message })
        return
      }
      // What else is wrong is said by a frame and a close code.
      known.set(request, () => { throw err })
      done()
    }
    void catchMaybe(() => {
      const { socket } = request.raw
      const answer = internals.access.identify(tokenOf(request), request, socket)
      return thenMaybe(isPromise(answer) ? whileConnected(socket, answer) : answer, (identity) => {
        known.set(request, () => identity)
        done()
      })
    }, failed)
  }

  scope.get(SOCKET_PATH, {
    websocket: true,
    // The suite limits its sockets itself. A host's limiter that counts addresses would refuse an office that reconnects.
    config: { realtime: {}, rateLimit: false },
    onRequest: (request, reply, done) => {
      if (supervisor.draining) {
        void reply.code(503).header('retry-after', 1).send({ message: 'This node restarts' })
        return
      }
      if (!request.ws) return done()
      answerAtOnce(request.raw.socket, reply)
      // As long as nobody is banned, nothing is asked twice and no upgrade waits.
      if (internals.restrictions.hasBans) refuseBanned(request, reply, done)
      else done()
    }
  }, (socket: WebSocket, request: FastifyRequest) => {
    // This plugin closes its own sockets, with a code that says why, before @fastify/websocket closes all it knows.
    scope.websocketServer.clients.delete(socket)
    // Frames go straight to the TCP socket where nothing sits between: not with compression, not in injectWS.
    const raw = request.raw.socket instanceof Socket && !settings.perMessageDeflate ? new RawSocket(request.raw.socket) : null
    const connection = new Connection({ socket, raw, request, client: describeClient(request) }, internals, settings)
    supervisor.watch(socket, connection)
    letGoOfHead(request.raw)
    // The one that @fastify/websocket attached holds the whole answer to the upgrade.
    if (ownServer) socket.removeAllListeners('error').on('error', onError)
    // Attached before anything asynchronous begins: frames that come at once wait in order behind the authentication.
    socket.on('message', onMessage).on('pong', onPong).on('close', onClose)
    // Watched like any other: its peer may never answer the close.
    if (!isAllowedOrigin(request, origins)) connection.close(CloseCode.forbidden, 'origin not allowed')
    else connection.enqueueFrame(() => pipeline.authenticateUpgrade(connection, tokenOf(request), known.get(request)))
  })
}

/**
 * The answer to the upgrade and what follows it at once leave in one write: the `authenticated` frame where the host knows
 * its users by heart. Held back is nothing for which anything is waited.
 */
function answerAtOnce (socket: Socket, reply: FastifyReply): void {
  if (!(socket instanceof Socket)) return
  socket.cork()
  queueMicrotask(() => {
    process.nextTick(() => {
      socket.uncork()
      // Upgraded: the HTTP response, which was never needed, would stay with the socket.
      if (reply.sent && !reply.raw.headersSent && reply.raw.socket === socket) reply.raw.detachSocket(socket)
    })
  })
}

/** What came right behind the upgrade request was read by now; @fastify/websocket keeps it, and with it all that came at once. */
function letGoOfHead (request: IncomingMessage): void {
  for (const key of Object.getOwnPropertySymbols(request)) if (key.description === 'ws-head') Reflect.set(request, key, NOTHING)
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
