import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Batch } from '../../lib/delivery/batch.js'
import { COMMENT, cursorBytes, streamBytes, type StreamBytes } from '../../lib/wire/event-stream.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import { RawSocket } from './node/raw-socket.js'
import { progressOf } from './node/socket-progress.js'
import type { StreamCursor } from './stream-cursor.js'
import type { Transport } from './transport.js'

const HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  // Otherwise nginx would buffer the events.
  'x-accel-buffering': 'no'
}

/** Comments without a ping of the client after which it counts as gone. A client sends as many pings, but a hidden page only one per minute. */
const PATIENCE = 3

/** A response with server-sent events. Clients send by REST. */
export class StreamTransport implements Transport {
  readonly source: ServerResponse
  /** Infinite until the client has sent a ping: before that, silence does not mean that the client is gone. */
  patience = Infinity
  readonly #cursor: StreamCursor
  readonly #reply: FastifyReply
  /** The TCP socket below HTTP/1; null for HTTP/2, and for a test's stream. */
  readonly #tcp: Socket | null
  /** Writes encoded chunks to the TCP socket; null if the response must write them. */
  #raw: RawSocket | null = null
  #isChunked = false
  /** Bytes that had to wait when they were written to the response. */
  #delayed = 0
  #state: 'opening' | 'open' | 'ended' = 'opening'

  constructor (request: FastifyRequest, reply: FastifyReply, cursor: StreamCursor) {
    const { socket, httpVersionMajor } = request.raw
    this.source = reply.raw
    this.#reply = reply
    this.#cursor = cursor
    this.#tcp = socket instanceof Socket && httpVersionMajor < 2 ? socket : null
  }

  /** Sends the head of the response. From now on events can be written. */
  start (): void {
    const { source } = this
    this.#state = 'open'
    this.#reply.hijack()
    // Headers that hooks of the host have set, as for CORS, are part of the response.
    for (const [name, value] of Object.entries({ ...this.#reply.getHeaders(), ...HEADERS })) if (value !== undefined) source.setHeader(name, value)
    source.writeHead(200)
    source.flushHeaders()
    // Node must not close an idle stream.
    this.#tcp?.setTimeout(0)
    // After another response of the same connection, writes have to wait.
    if (this.#tcp === null || source.socket !== this.#tcp) return
    this.#raw = new RawSocket(this.#tcp)
    this.#isChunked = source.chunkedEncoding
  }

  get isOpen (): boolean {
    return this.#state === 'open' && !this.source.destroyed
  }

  get waiting (): number {
    return this.#raw?.waiting ?? streamOf(this.source)?.writableLength ?? this.source.writableLength
  }

  get progress (): number {
    return this.#raw !== null && this.#tcp !== null ? progressOf(this.#tcp) : this.#delayed - this.waiting
  }

  readonly isPaused = false
  readonly isMidMessage = false

  sizeOf (batch: Batch): number {
    return batch.stream.chunk.length
  }

  write (batch: Batch): void {
    const epoch = batch.newest > 0 ? this.#cursor.mark(batch.newest) : null
    this.#put(epoch === null ? batch.stream : batch.marked(epoch))
    if (epoch === null) this.#sendCursor()
  }

  cork (): void {
    this.#raw?.cork()
  }

  flush (): void {
    this.#raw?.flush()
  }

  ping (): void {
    if (!this.isOpen) return
    this.#put(COMMENT)
    this.replayed()
  }

  notePing (): void {
    this.patience = PATIENCE
  }

  replayed (): void {
    this.#cursor.advance()
    this.#sendCursor()
  }

  pause (): void {}

  resume (): void {}

  close (code: number, reason: string): void {
    if (this.#state === 'open') {
      this.#put(streamBytes([encodeFrame('close', { code, reason })]))
      this.#raw?.flush()
      this.source.end()
    }
    this.#state = 'ended'
  }

  terminate (): void {
    this.#state = 'ended'
    streamOf(this.source)?.destroy()
    // Behind another response, only the connection can be destroyed.
    if (this.source.socket === null) this.#tcp?.destroy()
    this.source.destroy()
  }

  /** Sends the cursor, if it is due and was not part of the last write. */
  #sendCursor (): void {
    const cursor = this.isOpen ? this.#cursor.due() : null
    if (cursor !== null) this.#put(cursorBytes(cursor))
  }

  #put ({ chunk, blocks }: StreamBytes): void {
    if (this.#raw !== null) this.#raw.write(this.#isChunked ? chunk : blocks)
    else {
      const before = this.waiting
      this.source.write(blocks)
      this.#delayed += this.waiting - before
    }
  }
}

/** The stream of HTTP/2, whose responses have the type of HTTP/1 in Fastify. */
const streamOf = (response: ServerResponse): Http2ServerResponse['stream'] | null =>
  'stream' in response ? (response as unknown as Http2ServerResponse).stream : null
