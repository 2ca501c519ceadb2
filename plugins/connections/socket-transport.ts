import { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import type { Batch } from '../../lib/delivery/batch.js'
import { RawSocket } from './node/raw-socket.js'
import { isMidMessage } from './node/receiver.js'
import { progressOf } from './node/socket-progress.js'
import type { Transport } from './transport.js'

/** Pings without a response after which a client counts as gone. Every client responds to pings. */
const PATIENCE = 2

/** A WebSocket. */
export class SocketTransport implements Transport {
  readonly source: WebSocket
  readonly patience = PATIENCE
  readonly #tcp: Socket | null
  /** Writes encoded frames to the TCP socket; null with compression, or for a test's stream. */
  readonly #raw: RawSocket | null

  constructor (socket: WebSocket, { raw: { socket: tcp } }: FastifyRequest, isCompressed: boolean) {
    this.source = socket
    this.#tcp = tcp instanceof Socket ? tcp : null
    this.#raw = this.#tcp !== null && !isCompressed ? new RawSocket(this.#tcp) : null
  }

  get isOpen (): boolean {
    return this.source.readyState === this.source.OPEN
  }

  get waiting (): number {
    return this.#raw?.waiting ?? this.source.bufferedAmount
  }

  get progress (): number {
    return this.#tcp !== null ? progressOf(this.#tcp) : -this.waiting
  }

  get isPaused (): boolean {
    return this.source.isPaused
  }

  get isMidMessage (): boolean {
    return isMidMessage(this.source)
  }

  sizeOf (batch: Batch): number {
    return batch.wire.length
  }

  write (batch: Batch): void {
    if (this.#raw !== null) this.#raw.write(batch.wire)
    else for (const payload of batch.payloads) this.source.send(payload, { binary: false })
  }

  /**
   * Must not be called in a turn in which frames are read: the last of them may be a close frame, to which `ws` responds at once,
   * and nothing may be written after that response.
   */
  cork (): void {
    this.#raw?.cork()
  }

  flush (): void {
    this.#raw?.flush()
  }

  replayed (): void {}

  ping (): void {
    if (this.isOpen) this.source.ping()
  }

  notePing (): void {}

  pause (): void {
    if (this.isOpen) this.source.pause()
  }

  resume (): void {
    this.source.resume()
  }

  close (code: number, reason: string): void {
    this.source.close(code, reason)
    // Otherwise the peer's response would not be read.
    this.source.resume()
  }

  terminate (): void {
    this.source.terminate()
  }
}
