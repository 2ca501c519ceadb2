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
import { overloaded, type Arrivals } from './arrivals.js'
import { Connection } from './connection.js'
import type { Connections } from './connections.js'
import { countSilentFrame } from './flood.js'
import type { FramePipeline } from './frame-pipeline.js'
import { corkUpgrade } from './node/cork-upgrade.js'
import { endOnce } from './node/end-once.js'
import { excludeFromServer } from './node/exclude-from-server.js'
import { fragmentListener, receiverStream } from './node/receiver.js'
import { releaseHead } from './node/release-head.js'
import { replaceErrorListener } from './node/replace-error-listener.js'
import { REFUSAL_TIMEOUT_MS, type ConnectionSettings } from './options.js'
import { isAllowedOrigin } from './origin.js'
import type { Places } from './places.js'
import { SocketTransport } from './socket-transport.js'
import type { Supervisor } from './supervisor.js'
import { describeClient } from './user-agent.js'
import { whileConnected } from './waiting-upgrade.js'

export interface SocketRouteParts {
  internals: Internals
  settings: ConnectionSettings
  /** The result of `readOrigins`. */
  origins: ReadonlySet<string>
  connections: Connections
  pipeline: FramePipeline
  supervisor: Supervisor
  places: Places
  arrivals: Arrivals
  /** This plugin registered @fastify/websocket, so that it also handles errors of the sockets. */
  ownServer: boolean
}

/** `GET {prefix}/ws`: the only route that opens sockets. */
export async function socketRoute (fastify: FastifyInstance, parts: SocketRouteParts): Promise<void> {
  await ownScope(fastify, parts.internals.settings.prefix, (scope) => { addRoute(scope, parts) })
}

function addRoute (scope: FastifyInstance, { internals, settings, origins, connections, pipeline, supervisor, places, arrivals, ownServer }: SocketRouteParts): void {
  // idle memory: one listener for all sockets, distinguished by `this`, instead of closures that stay as long as each socket.
  function onMessage (this: WebSocket, data: RawData, isBinary: boolean): void {
    const connection = supervisor.of(this)
    if (connection === undefined) return
    connection.noteActivity()
    const size = Buffer.isBuffer(data) ? data.length : 0
    supervisor.noteMessage(this)
    if (size > settings.maxFrameSize) connection.close(CloseCode.tooBig, 'frame too big')
    else if (connection.phase.name !== 'closing') pipeline.receive(connection, isBinary ? null : textOf(data))
    else countSilentFrame(connection)
  }
  function onPong (this: WebSocket): void {
    const connection = supervisor.of(this)
    if (connection === undefined) return
    // An unsolicited pong counts.
    if (connection.missedPings === 0) countSilentFrame(connection)
    connection.noteActivity()
  }
  function onPing (this: WebSocket): void {
    const connection = supervisor.of(this)
    if (connection !== undefined) countSilentFrame(connection)
  }
  const listenToFragments = fragmentListener((socket) => { onPing.call(socket) })
  function onError (this: WebSocket, err: Error): void {
    supervisor.of(this)?.request.log.debug({ err }, 'Socket error')
  }
  function onClose (this: WebSocket): void {
    const connection = supervisor.of(this)
    if (connection === undefined) return
    supervisor.forget(this)
    connections.onClosed(connection)
  }

  /** The result of `authenticate`, for requests that were authenticated before the upgrade. */
  const known = new WeakMap<FastifyRequest, () => Identity | null>()
  const refuseBanned = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    const failed = (err: unknown): void => {
      if (err instanceof RealtimeError && err.code === 'RT_BANNED') {
        const { statusCode, code, message } = err
        void reply.code(statusCode).send({ statusCode, code, error: 'Forbidden', message })
        return
      }
      // Other errors are reported by a frame and a close code.
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
    // Sockets have limits of their own. A host's limiter per address would refuse an office whose clients all reconnect.
    config: { realtime: {}, rateLimit: false },
    onRequest: (request, reply, done) => {
      if (supervisor.draining) return refuseDraining(reply)
      if (!request.ws) return done()
      if (!places.admit(request, reply)) return
      const retryAfter = arrivals.arrive(() => {
        if (supervisor.draining) return refuseDraining(reply)
        corkUpgrade(request.raw.socket, reply)
        // While no user is banned, the upgrade does not wait for `authenticate`.
        if (internals.restrictions.hasBans) refuseBanned(request, reply, done)
        else done()
      })
      if (retryAfter === null) return
      // A browser does not see the response to an upgrade: the socket opens, and closes with 1013.
      known.set(request, () => { throw overloaded(retryAfter) })
      done()
    }
  }, (socket: WebSocket, request: FastifyRequest) => {
    excludeFromServer(scope.websocketServer, socket)
    const transport = new SocketTransport(socket, request, settings.perMessageDeflate)
    const connection = new Connection({ transport, request, client: describeClient(request) }, internals, settings)
    supervisor.watch(connection)
    releaseHead(request.raw)
    for (const stream of [request.raw.socket, receiverStream(socket)]) if (stream !== null) endOnce(stream)
    if (ownServer) replaceErrorListener(socket, onError)
    // Attached before anything asynchronous begins: frames that arrive early wait until the socket is authenticated.
    listenToFragments(socket)
    socket.on('message', onMessage).on('ping', onPing).on('pong', onPong).on('close', onClose)
    // The supervisor destroys it if its peer does not respond to the close.
    if (!isAllowedOrigin(request, origins)) refuse(connection)
    else connection.order.enqueue(() => pipeline.authenticateUpgrade(connection, tokenOf(request), known.get(request)))
  })
}

const refuseDraining = (reply: FastifyReply): void => {
  void reply.code(503).header('retry-after', 1).send({ message: 'This node restarts' })
}

/** A refused peer gets less time to respond to the close than others. */
function refuse (connection: Connection): void {
  connection.close(CloseCode.forbidden, 'origin not allowed')
  setTimeout(() => { connection.terminate() }, REFUSAL_TIMEOUT_MS).unref()
}

/** idle memory: read when needed, because a variable beside the listeners would be kept as long as the connection. */
const tokenOf = ({ headers }: FastifyRequest): string | undefined =>
  bearerToken(headers.authorization) ?? subprotocolToken(headers['sec-websocket-protocol'])

/** The token of `Sec-WebSocket-Protocol: bearer, <token>`: a browser can send it, but no other header. */
function subprotocolToken (header: string | undefined): string | undefined {
  const [scheme, token] = (header ?? '').split(',').map((part) => part.trim())
  return scheme === 'bearer' && token !== undefined && token !== '' ? token : undefined
}

const textOf = (data: RawData): string => Buffer.isBuffer(data) ? data.toString() : ''
