import type { OutgoingEvent } from './contract.js'
import type { Signer } from './signer.js'

/**
 * What travels between nodes. Every message, on a channel's topic or a node's own, is
 *
 *     "rt" version mark [number] "\n"  { signature length u8, signature }  content
 *
 * The mark is `-` without a number, `+` with one, and `*` with the first number of a counter that did not exist. Redis puts
 * the first line of a numbered message in front of it, in the script that counts and publishes; all else is the sender's.
 * The signature covers topic and content. Redis is shared ground: whatever does not read as described is dropped, and a
 * numbered message that is dropped shows as a hole in its channel's numbers, which is filled from the log.
 *
 * On a channel's topic the content is frames, each behind a small binary header with what routing needs, so that a node
 * hands the payload on to its sockets without parsing it:
 *
 *     { flags u8, messageId f64, except length u8, except, payload length u32, payload } …
 */

/** Why a message was dropped. */
export type Rejection = 'malformed' | 'version' | 'signature'

export interface Opened {
  /** Of its channel; null where it has none. */
  number: number | null
  /** The channel had no counter before. */
  first: boolean
  content: Buffer
}

/** The first characters of what this version writes and reads. */
export const MAGIC = 'rt1'
const UNNUMBERED = Buffer.from(`${MAGIC}-\n`)
const [NEWLINE, DASH, PLUS, STAR, DIGIT_0, DIGIT_9] = [0x0a, 0x2d, 0x2b, 0x2a, 0x30, 0x39]
/** Room for the digits of any safe integer. */
const MAX_DIGITS = 16

/** How each payload begins, `{"ev`, and its last byte: enough to keep from sockets what is no frame, without parsing it. */
const OPENING = 0x7b226576
const CLOSING = 0x7d

const RETRY = 1
const FIXED = 1 + 8 + 1 + 4

/** Frames of one channel, with one signature. What `number` puts in front of it comes from Redis. */
export function sealFrames (frames: readonly OutgoingEvent[], topic: string, numbered: boolean, signer: Signer): Buffer {
  const excluded = frames.map(({ excludeConnectionId }) => excludeConnectionId === null ? null : Buffer.from(excludeConnectionId))
  let size = UNNUMBERED.length + 1 + signer.length
  const begin = size
  frames.forEach((frame, i) => { size += FIXED + (excluded[i]?.length ?? 0) + frame.payload.length })
  const out = Buffer.allocUnsafe(size)
  let at = begin
  frames.forEach((frame, i) => {
    const excludeConnectionId = excluded[i] ?? null
    at = out.writeUInt8(frame.isRetry ? RETRY : 0, at)
    at = out.writeDoubleBE(frame.messageId, at)
    at = out.writeUInt8(excludeConnectionId?.length ?? 0, at)
    if (excludeConnectionId !== null) at += excludeConnectionId.copy(out, at)
    at = out.writeUInt32BE(frame.payload.length, at)
    at += frame.payload.copy(out, at)
  })
  return seal(out, topic, signer).subarray(numbered ? UNNUMBERED.length : 0)
}

/** A text for a node. */
export function sealText (text: string, topic: string, signer: Signer): Buffer {
  const begin = UNNUMBERED.length + 1 + signer.length
  const out = Buffer.allocUnsafe(begin + Buffer.byteLength(text))
  out.write(text, begin)
  return seal(out, topic, signer)
}

/** Writes all that stands before the content. */
function seal (out: Buffer, topic: string, signer: Signer): Buffer {
  UNNUMBERED.copy(out)
  out.writeUInt8(signer.length, UNNUMBERED.length)
  const begin = UNNUMBERED.length + 1 + signer.length
  if (signer.length > 0) signer.sign(topic, out.subarray(begin)).copy(out, UNNUMBERED.length + 1)
  return out
}

/** Takes a message from a topic apart. The content is a slice of it, not a copy. */
export function open (message: Buffer, topic: string, signer: Signer): Opened | Rejection {
  if (message[0] !== UNNUMBERED[0] || message[1] !== UNNUMBERED[1] || !isDigit(message[2])) return 'malformed'
  if (message[2] !== UNNUMBERED[2] || isDigit(message[3])) return 'version'
  const mark = message[3]
  let at = 4
  let number: number | null = null
  if (mark === PLUS || mark === STAR) {
    number = 0
    for (; isDigit(message[at]) && at < 4 + MAX_DIGITS; at++) number = number * 10 + (message[at] as number) - DIGIT_0
    if (at === 4 || !Number.isSafeInteger(number)) return 'malformed'
  } else if (mark !== DASH) return 'malformed'
  const length = message[at + 1]
  if (message[at] !== NEWLINE || length === undefined || at + 2 + length > message.length) return 'malformed'
  const content = message.subarray(at + 2 + length)
  if (!signer.accepts(topic, content, message.subarray(at + 2, at + 2 + length))) return 'signature'
  return { number, first: mark === STAR, content }
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= DIGIT_0 && byte <= DIGIT_9

/** The frames of a channel's message; null where it is not made of whole ones. Payloads are slices, not copies. */
export function readFrames (content: Buffer): OutgoingEvent[] | null {
  const frames: OutgoingEvent[] = []
  for (let at = 0; at < content.length;) {
    if (content.length - at < FIXED) return null
    const flags = content.readUInt8(at)
    const messageId = content.readDoubleBE(at + 1)
    const excludedLength = content.readUInt8(at + 9)
    at += 10
    if (flags > RETRY || !Number.isSafeInteger(messageId) || messageId < 0 || content.length - at < excludedLength + 4) return null
    const excludeConnectionId = excludedLength === 0 ? null : content.toString('latin1', at, at + excludedLength)
    at += excludedLength
    const length = content.readUInt32BE(at)
    at += 4
    if (length < 5 || content.length - at < length) return null
    if (content.readUInt32BE(at) !== OPENING || content[at + length - 1] !== CLOSING) return null
    frames.push({ payload: content.subarray(at, at + length), messageId, excludeConnectionId, isRetry: flags === RETRY })
    at += length
  }
  return frames.length === 0 ? null : frames
}
