import { Server as HttpServer, ServerResponse, type IncomingMessage } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { WebSocket } from 'ws'
import { asOwnListener, asRequest, othersListen, type Dispatch } from './dispatch.js'
import { REFUSAL_TIMEOUT_MS } from './options.js'

/** Pause between two looks at what keeps a closing server open. */
const SWEEP = 200
/** What became of an upgrade request. It is looked at once: several suites in one app share its server. */
const STATE = Symbol('state')

/**
 * The TCP sockets of this server that are not WebSockets, or not yet. Node lets go of a socket that asks for an upgrade:
 * when a hook, a limit or a missing route refuses it, nobody else closes it, and `app.close()` waits for it for ever. A
 * socket whose request never becomes complete has the same effect while the server closes.
 */
export class Upgrades {
  /** They asked for an upgrade and were not answered yet. */
  readonly #waiting = new Set<Duplex>()
  /** HTTP connections, with a request in progress or without. */
  readonly #connections = new Set<Duplex>()
  /** What may be busy without an HTTP/1 request: upgrades for servers of other libraries, TLS handshakes, HTTP/2. Ended at the deadline. */
  readonly #others = new Set<Duplex>()
  // One function for all sockets: a closure for each would stay as long as the socket does.
  readonly #onGone: (this: Duplex) => void
  #sweeping: NodeJS.Timeout | null = null

  constructor () {
    const forget = (socket: Duplex): void => { this.#forget(socket) }
    this.#onGone = function () { forget(this) }
  }

  /** Without `dispatch`, the @fastify/websocket of the host listens by itself. */
  watch ({ server, websocketServer }: FastifyInstance, dispatch: Dispatch | null): void {
    server.prependListener('upgrade', asOwnListener((request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#forget(socket)
      if (Reflect.has(request, STATE)) return
      Reflect.set(request, STATE, 'seen')
      if (dispatch !== null) {
        if (dispatch(request, socket, head)) this.#expectAnswer(request, socket)
        else if (!this.#connections.has(socket)) this.#track(this.#others, socket)
      } else if (!othersListen(server)) {
        asRequest(server, request, socket, head) // it closes, and listens no more
      } else {
        process.nextTick(() => { this.#expectAnswer(request, socket) })
      }
    }))
    websocketServer.on('connection', (webSocket: WebSocket, request: IncomingMessage) => {
      Reflect.set(request, STATE, 'upgraded')
      if (request.socket instanceof Socket) this.#forget(request.socket)
      if (dispatch !== null) process.nextTick(endIfRefused, webSocket)
    })
    const isPlain = server instanceof HttpServer
    server.on('connection', (socket: Socket) => { this.#track(isPlain ? this.#connections : this.#others, socket) })
    if (server instanceof HttpsServer) server.on('secureConnection', (socket: Socket) => { this.#track(this.#connections, socket) })
  }

  /** The server is closing: whatever is watched here is gone by the deadline (`performance.now()`), and so are the host's own WebSockets. */
  end ({ websocketServer }: FastifyInstance, deadline: number): void {
    let seen = new Set<Duplex>()
    this.#sweeping = setInterval(() => {
      const idle = [...this.#connections].filter((socket) => responseOn(socket) === null)
      // Not at first sight: a request may be just coming in, to be told that this server closes.
      for (const socket of idle) if (seen.has(socket)) socket.destroy()
      seen = new Set(idle)
      if (performance.now() < deadline) return
      for (const sockets of [this.#waiting, this.#connections, this.#others]) for (const socket of sockets) socket.destroy()
      for (const client of websocketServer.clients) client.terminate()
    }, SWEEP).unref()
  }

  /** The server is closed. */
  stop (): void {
    if (this.#sweeping !== null) clearInterval(this.#sweeping)
  }

  /** An upgrade was handed on. What it is answered with other than a WebSocket ends the socket. */
  #expectAnswer (request: IncomingMessage, socket: Duplex): void {
    if (socket.destroyed || Reflect.get(request, STATE) === 'upgraded') return
    const response = responseOn(socket)
    // Somebody else's: a host may attach servers of other libraries.
    if (response === null) return this.#track(this.#others, socket)
    if (response.writableFinished) return endSocket(response)
    response.once('finish', onFinish)
    // A hook may have taken the reply over and answer on the socket itself.
    this.#track(this.#waiting, socket.once('finish', onSocketFinish))
  }

  #track (sockets: Set<Duplex>, socket: Duplex): void {
    sockets.add(socket.once('close', this.#onGone))
  }

  #forget (socket: Duplex): void {
    for (const sockets of [this.#waiting, this.#connections, this.#others]) sockets.delete(socket)
    socket.off('close', this.#onGone).off('finish', onSocketFinish)
  }
}

/** Closed as it opened: by a route that is no WebSocket's, for instance. */
function endIfRefused (webSocket: WebSocket): void {
  if (webSocket.readyState === webSocket.CLOSING) setTimeout(() => { webSocket.terminate() }, REFUSAL_TIMEOUT_MS).unref()
}

function onSocketFinish (this: Duplex): void {
  this.destroy()
}

function onFinish (this: ServerResponse): void {
  endSocket(this)
}

/** What was written is sent, and the socket destroyed whether its peer closes or not. */
function endSocket ({ socket }: ServerResponse): void {
  socket?.resume().destroySoon()
}

/** The response that is being written to a socket; null: none. Node keeps it there, and tells nobody else. */
function responseOn (socket: Duplex): ServerResponse | null {
  const response: unknown = Reflect.get(socket, '_httpMessage')
  return response instanceof ServerResponse ? response : null
}
