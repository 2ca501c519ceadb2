import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

const PONG = Buffer.from([0x8a, 0x80, 0, 0, 0, 0])
const CLOSE = Buffer.from([0x88, 0x80, 0, 0, 0, 0])
const ENGINE_PONG = frameOf('3')
const MESSAGE = Buffer.from('event: message:group\n')
const EMPTY_LINE = Buffer.from('\n\n')
const [LF, E] = [0x0a, 0x65]

/** A client's text frame. The mask is zero: valid, and nothing to compute. */
export function frameOf (text: string): Buffer {
  const payload = Buffer.from(text)
  const { length } = payload
  const header = length < 126 ? Buffer.from([0x81, 0x80 | length]) : Buffer.from([0x81, 0xfe, length >> 8, length & 255])
  return Buffer.concat([header, Buffer.alloc(4), payload])
}

/** Frames by their headers alone: a generator that parsed each one would cost more than the servers it measures. */
export class RawClient {
  readonly socket: Socket
  /** Text frames that came. */
  count = 0
  /** Called with how many came at once. */
  onCount: ((count: number) => void) | null = null
  /** Called for each frame with its payload; null: frames are only counted. */
  onFrame: ((payload: Buffer) => void) | null = null
  /** Called with the code when the server closes; the close is answered. */
  onClose: ((code: number) => void) | null = null
  #rest: Buffer | null = null
  #onCursor: (() => void) | null = null
  /** Bytes of the last message of a stream. */
  #length = 0

  private constructor (socket: Socket, isStream = false) {
    this.socket = socket
    socket.on('data', isStream ? (bytes: Buffer) => { this.#takeEvents(bytes) } : (bytes: Buffer) => { this.#take(bytes) })
  }

  /** A stream of server-sent events, of which it counts the messages. */
  static async stream (port: number, path: string, { headers = {}, localAddress }: { headers?: Record<string, string>, localAddress?: string | undefined } = {}): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, ...localAddress === undefined ? {} : { localAddress } })
    socket.setMaxListeners(0)
    await once(socket, 'connect')
    socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`)
    const { rest } = await readHead(socket, '200')
    const client = new RawClient(socket, true)
    // The cursor is sent when everything is subscribed.
    await new Promise<void>((resolve) => {
      client.#onCursor = resolve
      client.#takeEvents(rest)
    })
    return client
  }

  static async open (port: number, path: string, { headers = {}, localAddress }: { headers?: Record<string, string>, localAddress?: string | undefined } = {}): Promise<RawClient> {
    // Bound to no address unless one is asked for: the kernel would search long for a port among those just closed.
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, ...localAddress === undefined ? {} : { localAddress } })
    socket.setMaxListeners(0)
    await once(socket, 'connect')
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')
    socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n` +
      `sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n${lines}\r\n`)
    const head = await readHead(socket)
    const client = new RawClient(socket)
    if (head.rest.length > 0) setImmediate(() => { client.#take(head.rest) })
    return client
  }

  send (frame: Buffer): void {
    this.socket.write(frame)
  }

  /** The first frame that fits. */
  async next (fits: (text: string, payload: Buffer) => boolean = () => true): Promise<string> {
    const { onFrame, socket } = this
    let timer: NodeJS.Timeout | undefined
    let onClose = (): void => {}
    try {
      return await new Promise((resolve, reject) => {
        timer = setTimeout(() => { reject(new Error('the server does not answer')) }, 20_000)
        onClose = () => { reject(new Error('the connection is closed')) }
        socket.once('close', onClose)
        this.onFrame = (payload) => {
          const text = payload.toString()
          if (fits(text, payload)) resolve(text)
        }
      })
    } finally {
      this.onFrame = onFrame
      clearTimeout(timer)
      socket.off('close', onClose)
    }
  }

  close (): void {
    this.socket.destroy()
  }

  #closed (code: number): void {
    const { onClose } = this
    this.onClose = null
    this.socket.end(CLOSE)
    onClose?.(code)
  }

  /**
   * Blocks. One that ends where the last message would is taken for another: searching each for its end would cost more than
   * the header of a frame. The rows compare the count with what was sent.
   */
  #takeEvents (chunk: Buffer): void {
    const bytes = this.#rest === null ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    let count = 0
    while (at < bytes.length) {
      let end = at + this.#length
      if (this.#length > 0 && bytes[end - 1] === LF && bytes[end - 2] === LF && bytes[at] === E) {
        count++
        at = end
        continue
      }
      for (end = at + 1; end < bytes.length && bytes[end - 1] !== LF;) end++
      if (bytes[end - 1] !== LF) break
      if (bytes[at] === E && bytes.subarray(at, end).equals(MESSAGE)) {
        end = bytes.indexOf(EMPTY_LINE, at) + EMPTY_LINE.length
        if (end < EMPTY_LINE.length) break
        this.#length = end - at
        count++
      } else if (this.#onCursor !== null && bytes.toString('latin1', at, end).startsWith('id: ')) {
        this.#onCursor()
        this.#onCursor = null
      }
      at = end
    }
    this.#rest = at === bytes.length ? null : bytes.subarray(at)
    if (count === 0) return
    this.count += count
    this.onCount?.(count)
  }

  #take (chunk: Buffer): void {
    const bytes = this.#rest === null ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    let count = 0
    while (at + 2 <= bytes.length) {
      const opcode = (bytes[at] ?? 0) & 15
      let length = (bytes[at + 1] ?? 0) & 127
      let from = at + 2
      if (length === 126) {
        if (from + 2 > bytes.length) break
        length = bytes.readUInt16BE(from)
        from += 2
      } else if (length === 127) {
        if (from + 8 > bytes.length) break
        length = Number(bytes.readBigUInt64BE(from))
        from += 8
      }
      if (from + length > bytes.length) break
      at = from + length
      if (opcode === 9) this.socket.write(PONG)
      else if (length === 1 && bytes[from] === 0x32) this.socket.write(ENGINE_PONG) // engine.io asks with a 2
      else if (opcode === 8) {
        if (this.onClose !== null) this.#closed(length < 2 ? 1005 : bytes.readUInt16BE(from))
      } else {
        count++
        this.onFrame?.(bytes.subarray(from, at))
      }
    }
    this.#rest = at === bytes.length ? null : bytes.subarray(at)
    if (count === 0) return
    this.count += count
    this.onCount?.(count)
  }
}

async function readHead (socket: Socket, status = '101'): Promise<{ rest: Buffer }> {
  let head = Buffer.alloc(0)
  return await new Promise((resolve, reject) => {
    const onData = (bytes: Buffer): void => {
      head = Buffer.concat([head, bytes])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      socket.off('data', onData)
      if (head.toString('latin1', 9, 12) === status) resolve({ rest: head.subarray(end + 4) })
      else reject(new Error(head.toString('latin1', 0, end)))
    }
    socket.on('data', onData)
    socket.once('error', reject)
  })
}
