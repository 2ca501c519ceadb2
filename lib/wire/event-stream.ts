import type { FrameId } from './protocol.js'

const OPENING = Buffer.from('{"event":"')
const DATA = Buffer.from(',"data":')
const END = Buffer.from('\n\n')
const [QUOTE, BACKSLASH, LF, CR] = [0x22, 0x5c, 0x0a, 0x0d]

/** Encoded server-sent events: `blocks` are the text of the stream, `chunk` is the same with the framing of HTTP/1.1. */
export interface StreamBytes {
  readonly chunk: Buffer
  readonly blocks: Buffer
}

/** A comment, which keeps proxies awake. */
export const COMMENT = chunkOf([Buffer.from(':\n\n')])

/**
 * Events as a stream, built once per node: the payload of a WebSocket frame is `{"event":…,"data":…}`, and its data are copied as
 * they are, without parsing them.
 */
export function streamBytes (payloads: readonly Buffer[]): StreamBytes {
  return chunkOf(payloads.flatMap(blockOf))
}

/** Events, and the cursor behind them as a block of its own: a client that has it has all events before it. */
export function withCursor ({ blocks }: Pick<StreamBytes, 'blocks'>, cursor: string): StreamBytes {
  return chunkOf([blocks, Buffer.from(`id: ${cursor}\n\n`)])
}

/** A cursor by itself. */
export const cursorBytes = (cursor: string): StreamBytes => chunkOf([Buffer.from(`id: ${cursor}\n\n`)])

function chunkOf (parts: readonly Buffer[]): StreamBytes {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const header = Buffer.from(`${length.toString(16)}\r\n`)
  const chunk = Buffer.concat([header, ...parts, Buffer.from('\r\n')])
  return { chunk, blocks: chunk.subarray(header.length, header.length + length) }
}

/** `event:` and `data:` of one payload. */
function blockOf (payload: Buffer): Buffer[] {
  const from = OPENING.length
  const end = payload.indexOf(QUOTE, from)
  const isPlain = payload.subarray(0, from).equals(OPENING) && payload.subarray(end + 1, end + 1 + DATA.length).equals(DATA) &&
    !payload.subarray(from, end).includes(BACKSLASH) && !payload.includes(LF) && !payload.includes(CR)
  if (!isPlain) {
    // A payload of another form: a reply, or an event whose JSON a database has stored with line breaks. Readers skip the field
    // `reply`, which is not part of the standard.
    const { event, id, data } = JSON.parse(payload.toString()) as { event: string, id?: FrameId, data: unknown }
    const reply = id === undefined ? '' : `reply: ${JSON.stringify(id)}\n`
    return [Buffer.from(`event: ${event}\n${reply}data: ${JSON.stringify(data)}\n\n`)]
  }
  const name = payload.toString('latin1', from, end)
  return [Buffer.from(`event: ${name}\ndata: `, 'latin1'), payload.subarray(end + 1 + DATA.length, payload.length - 1), END]
}
