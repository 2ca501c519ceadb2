import { Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { WebSocket } from 'ws'
import { asOwnListener, asRequest, othersListen, type Dispatch } from './dispatch.js'
import { responseOn } from './node/pending-response.js'
import { REFUSAL_TIMEOUT_MS } from './options.js'

/** Interval of the checks for sockets that keep a closing server open. */
const SWEEP_INTERVAL_MS = 200
/** The state of an upgrade request, kept on it because several registrations in one app share its server. */
const STATE = Symbol('state')

/**
 * The TCP sockets of this server that are not WebSockets, or not yet. Node no longer manages a socket that requests an upgrade:
 * if a hook, a limit or a missing route refuses the upgrade, nothing else closes it, and `app.close()` waits forever. So does
 * a closing server whose socket never completes its request.
 */
export class Upgrades {
  /** Sockets that requested an upgrade and have no response yet. */
  readonly #waiting = new Set<Duplex>()
  /** HTTP connections, with a request in progress or without. */
  readonly #connections = new Set<Duplex>()
  /** Sockets that may be busy without an HTTP/1 request: upgrades for servers of other libraries, TLS handshakes, HTTP/2. Ended at the deadline. */
  readonly #others = new Set<Duplex>()
  /** Of HTTP/2. Each keeps a closing server open, with requests or without. */
  readonly #sessions = new Set<Http2Session>()
  // idle memory: one function for all sockets, because a closure would stay as long as its socket.
  readonly #onGone: (this: Duplex) => void
  /** Marks a socket that has the listener of this registration. */
  readonly #tracked = Symbol('tracked')
  #sweeping: NodeJS.Timeout | null = null

  constructor () {
    const forget = (socket: Duplex): void => { this.#forget(socket) }
    this.#onGone = function () {
      forget(this)
    }
  }

  /** `dispatch` is null if the host registered @fastify/websocket itself. */
  watch ({ server, websocketServer }: FastifyInstance, dispatch: Dispatch | null): void {
    server.prependListener('upgrade', asOwnListener((request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#forget(socket)
      if (Reflect.has(request, STATE)) return
      Reflect.set(request, STATE, 'seen')
      if (dispatch !== null) {
        if (dispatch(request, socket, head)) this.#expectAnswer(request, socket)
        else if (!this.#connections.has(socket)) this.#track(this.#others, socket)
      } else if (!othersListen(server)) {
        asRequest(server, request, socket, head) // @fastify/websocket is closing
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
    // Emitted by servers of HTTP/2 alone.
    server.on('session', (session: Http2Session) => {
      this.#sessions.add(session)
      session.once('close', () => this.#sessions.delete(session))
    })
    if (server instanceof HttpsServer) server.on('secureConnection', (socket: Socket) => { this.#track(this.#connections, socket) })
  }

  /** The server is closing: destroys all sockets that are left at the deadline (by `performance.now()`), including WebSockets of the host. */
  end ({ websocketServer }: FastifyInstance, deadline: number): void {
    let seen = new Set<Duplex>()
    this.#sweeping = setInterval(() => {
      const idle = [...this.#connections].filter((socket) => responseOn(socket) === null)
      // Not on the first check: a request may be arriving, and should get the response that the server closes.
      for (const socket of idle) if (seen.has(socket)) socket.destroy()
      seen = new Set(idle)
      // Each ends with its last request.
      for (const session of this.#sessions) session.close()
      if (performance.now() < deadline) return
      for (const sockets of [this.#waiting, this.#connections, this.#others]) for (const socket of sockets) socket.destroy()
      for (const client of websocketServer.clients) client.terminate()
    }, SWEEP_INTERVAL_MS).unref()
  }

  /** The server is closed. */
  stop (): void {
    if (this.#sweeping !== null) clearInterval(this.#sweeping)
  }

  /** An upgrade was dispatched. Any response other than a WebSocket ends the socket. */
  #expectAnswer (request: IncomingMessage, socket: Duplex): void {
    if (socket.destroyed || Reflect.get(request, STATE) === 'upgraded') return
    const response = responseOn(socket)
    // Handled by another library on the same server.
    if (response === null) return this.#track(this.#others, socket)
    if (response.writableFinished) return endSocket(response)
    response.once('finish', onFinish)
    // A hook may have hijacked the reply, and write to the socket itself.
    this.#track(this.#waiting, socket.once('finish', onSocketFinish))
  }

  /** A socket gets its listener once, and keeps it: adding and removing it at each step of an upgrade costs more than all steps (bench row "connect"). */
  #track (sockets: Set<Duplex>, socket: Duplex): void {
    sockets.add(socket)
    if (Reflect.has(socket, this.#tracked)) return
    Reflect.set(socket, this.#tracked, true)
    socket.on('close', this.#onGone)
  }

  #forget (socket: Duplex): void {
    this.#connections.delete(socket)
    this.#others.delete(socket)
    if (this.#waiting.delete(socket)) socket.off('finish', onSocketFinish)
  }
}

/** Ends a WebSocket that was closed as it opened, for example by a route without WebSockets. */
function endIfRefused (webSocket: WebSocket): void {
  if (webSocket.readyState === webSocket.CLOSING) setTimeout(() => { webSocket.terminate() }, REFUSAL_TIMEOUT_MS).unref()
}

function onSocketFinish (this: Duplex): void {
  this.destroy()
}

function onFinish (this: ServerResponse): void {
  endSocket(this)
}

/** Sends written bytes, and destroys the socket even if its peer does not close. */
function endSocket ({ socket }: ServerResponse): void {
  socket?.resume().destroySoon()
}
