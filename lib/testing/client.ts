/* eslint-disable @typescript-eslint/no-explicit-any, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-argument,
   @typescript-eslint/no-unsafe-return -- tests assert the shape of received data */
import { once } from 'node:events'
import type { WebSocket } from 'ws'

/** A received frame. */
export interface TestFrame { event: string, id?: number | string, data: any }

/** Time to wait for a frame, in milliseconds. */
const FRAME_TIMEOUT_MS = 10_000

/** A socket that keeps every frame until it is taken, so that none is missed and none is taken twice. */
export class TestClient {
  readonly frames: TestFrame[] = []
  readonly socket: WebSocket
  /** The close code. */
  readonly closed: Promise<number>
  #serial = 0

  constructor (socket: WebSocket) {
    this.socket = socket
    socket.setMaxListeners(0)
    socket.on('error', () => {}) // `close` follows
    socket.on('message', (data: Buffer) => {
      this.frames.push(JSON.parse(data.toString()) as TestFrame)
      socket.emit('kept')
    })
    this.closed = new Promise((resolve) => { socket.once('close', resolve) })
  }

  send (event: string, data?: unknown, id?: number | string): void {
    this.socket.send(JSON.stringify({ event, data, id }))
  }

  /** The ack's data; an `error` frame is thrown, with its `code`. */
  async request (event: string, data?: unknown): Promise<any> {
    const id = ++this.#serial
    this.send(event, data, id)
    const reply = await this.take(`a reply to ${event}`, (frame) => frame.id === id)
    if (reply.event === 'error') throw Object.assign(new Error(reply.data.message), reply.data)
    return reply.data
  }

  /** Takes the first frame of this event that fits out of the buffer, and returns its data. Rejects after 10 s. */
  async next (event: string, fits: (data: any) => boolean = () => true): Promise<any> {
    return (await this.take(event, (frame) => frame.event === event && fits(frame.data))).data
  }

  /** The data of all frames of this event that were received and not taken, including everything sent before this call. */
  async soFar (event: string): Promise<any[]> {
    await this.request('ping')
    return this.frames.filter((frame) => frame.event === event).map(({ data }) => data)
  }

  /** Closes the socket. Resolves with the close code. */
  async end (): Promise<number> {
    this.socket.close()
    return await this.closed
  }

  /** Takes the first frame that fits out of the buffer; `what` names it in the error if it does not arrive. */
  async take (what: string, fits: (frame: TestFrame) => boolean): Promise<TestFrame> {
    const signal = AbortSignal.timeout(FRAME_TIMEOUT_MS)
    for (;;) {
      const at = this.frames.findIndex(fits)
      const [found] = at < 0 ? [] : this.frames.splice(at, 1)
      if (found !== undefined) return found
      if (signal.aborted || this.socket.readyState === this.socket.CLOSED) {
        throw new Error(`${what} did not arrive; received: ${JSON.stringify(this.frames)}`)
      }
      await Promise.race([once(this.socket, 'kept', { signal }), this.closed]).catch(() => {})
    }
  }
}
