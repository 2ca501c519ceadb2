import { Server as HttpServer, ServerResponse, type IncomingMessage } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { asRequest, type Dispatch } from './dispatch.js'

/** Pause between two looks at what keeps a closing server open. */
const SWEEP = 200

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
  // One function for all sockets: a closure for each would stay as long as the socket does.
  readonly #onGone: (this: Duplex) => void
  #sweeping: NodeJS.Timeout | null = null

  constructor () {
    const forget = (socket: Duplex): void => { this.#forget(socket) }
    this.#onGone = function () { forget(this) }
  }

  /** Without `dispatch`, the @fastify/websocket of the host listens by itself. */
  watch ({ server, websocketServer }: FastifyInstance, dispatch: Dispatch | null): void {
    server.prependListener('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#forget(socket)
      if (dispatch !== null) {
        if (dispatch(request, socket, head)) this.#expectAnswer(socket)
      } else if (server.listenerCount('upgrade') === 1) {
        asRequest(server, request, socket, head) // it closes, and listens no more
      } else {
        process.nextTick(() => { this.#expectAnswer(socket) })
      }
    })
    websocketServer.on('connection', (_socket: unknown, { socket }: IncomingMessage) => {
      if (socket instanceof Socket) this.#forget(socket)
    })
    // A server that the host made may speak HTTP/2, which knows neither these sockets nor these responses.
    const connected = server instanceof HttpsServer ? 'secureConnection' : server instanceof HttpServer ? 'connection' : null
    if (connected !== null) server.on(connected, (socket: Socket) => { this.#connections.add(socket.once('close', this.#onGone)) })
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
      for (const socket of this.#waiting) socket.destroy()
      for (const client of websocketServer.clients) client.terminate()
    }, SWEEP).unref()
  }

  /** The server is closed. */
  stop (): void {
    if (this.#sweeping !== null) clearInterval(this.#sweeping)
  }

  /** An upgrade was handed on. What it is answered with other than a WebSocket ends the socket. */
  #expectAnswer (socket: Duplex): void {
    const response = responseOn(socket)
    // Upgraded already, or somebody else's: a host may attach servers of other libraries.
    if (response === null || socket.destroyed) return
    if (response.writableFinished) return endSocket(response)
    response.once('finish', onFinish)
    this.#waiting.add(socket.once('close', this.#onGone))
  }

  #forget (socket: Duplex): void {
    this.#waiting.delete(socket)
    this.#connections.delete(socket)
    socket.off('close', this.#onGone)
  }
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
