import { Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { asRequest, type Dispatch } from './dispatch.js'
import { responseOn } from './node/pending-response.js'

/** Interval of the checks for sockets that keep a closing server open. */
const SWEEP_INTERVAL_MS = 200

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
  // idle memory: one function for all sockets, because a closure would stay as long as its socket.
  readonly #onGone: (this: Duplex) => void
  #sweeping: NodeJS.Timeout | null = null

  constructor () {
    const forget = (socket: Duplex): void => { this.#forget(socket) }
    this.#onGone = function () { forget(this) }
  }

  /** `dispatch` is null if the host registered @fastify/websocket itself. */
  watch ({ server, websocketServer }: FastifyInstance, dispatch: Dispatch | null): void {
    server.prependListener('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#forget(socket)
      if (dispatch !== null) {
        if (dispatch(request, socket, head)) this.#expectAnswer(socket)
      } else if (server.listenerCount('upgrade') === 1) {
        asRequest(server, request, socket, head) // @fastify/websocket is closing
      } else {
        process.nextTick(() => { this.#expectAnswer(socket) })
      }
    })
    websocketServer.on('connection', (_socket: unknown, { socket }: IncomingMessage) => {
      if (socket instanceof Socket) this.#forget(socket)
    })
    // A server created by the host may speak HTTP/2, which has neither these sockets nor these responses.
    const connected = server instanceof HttpsServer ? 'secureConnection' : server instanceof HttpServer ? 'connection' : null
    if (connected !== null) server.on(connected, (socket: Socket) => { this.#connections.add(socket.once('close', this.#onGone)) })
  }

  /** The server is closing: destroys all sockets that are left at the deadline (by `performance.now()`), including WebSockets of the host. */
  end ({ websocketServer }: FastifyInstance, deadline: number): void {
    let seen = new Set<Duplex>()
    this.#sweeping = setInterval(() => {
      const idle = [...this.#connections].filter((socket) => responseOn(socket) === null)
      // Not on the first check: a request may be arriving, and should get the response that the server closes.
      for (const socket of idle) if (seen.has(socket)) socket.destroy()
      seen = new Set(idle)
      if (performance.now() < deadline) return
      for (const socket of this.#waiting) socket.destroy()
      for (const client of websocketServer.clients) client.terminate()
    }, SWEEP_INTERVAL_MS).unref()
  }

  /** The server is closed. */
  stop (): void {
    if (this.#sweeping !== null) clearInterval(this.#sweeping)
  }

  /** An upgrade was dispatched. Any response other than a WebSocket ends the socket. */
  #expectAnswer (socket: Duplex): void {
    const response = responseOn(socket)
    // Already upgraded, or handled by another library on the same server.
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

/** Sends what was written, and destroys the socket even if its peer does not close. */
function endSocket ({ socket }: ServerResponse): void {
  socket?.resume().destroySoon()
}
