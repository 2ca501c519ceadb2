import type { OutgoingEvent } from './contract.js'
import type { Signer } from './signer.js'

/**
 * The format of messages between nodes. Every message, on the topic of a channel or of a node, is
 *
 *     "rt" version mark [number] "\n"  { signature length u8, signature }  content
 *
 * The mark is `-` without a number, `+` with one, and `*` with the first number of a new counter. The first line of a numbered
 * message is added in Redis, by the script that counts and publishes; the sender writes the rest. The signature covers topic
 * and content. Others may write to the same Redis: a message in any other format is dropped. If it was numbered, the channel's
 * numbers have a gap, which is filled from the log.
 *
 * On a channel's topic the content is a sequence of events. Each has a small binary header for routing, so that a node writes
 * the payload to its sockets without parsing it:
 *
 *     { flags u8, messageId f64, excluded length u8, excluded id, { about length u16, about }, payload length u32, payload } …
 *
 * The flags tell whether `about` is present.
 */

/** Why a message was dropped. */
export type Rejection = 'malformed' | 'version' | 'signature'

export interface Opened {
  /** The message's number in its channel; null if it has none. */
  number: number | null
  /** The first number of a new counter. */
  isFirst: boolean
  content: Buffer
}

/** The first characters of messages of this version. */
export const MAGIC = 'rt1'
const UNNUMBERED = Buffer.from(`${MAGIC}-\n`)
const [NEWLINE, DASH, PLUS, STAR, DIGIT_0, DIGIT_9] = [0x0a, 0x2d, 0x2b, 0x2a, 0x30, 0x39]
/** Digits of the largest safe integer. */
const MAX_DIGITS = 16

/** The first bytes of each payload, `{"ev`, and its last: enough to reject what is not a frame without parsing it. */
const OPENING = 0x7b226576
const CLOSING = 0x7d

const [RETRY, ABOUT, WITHOUT_SELF] = [1, 2, 4]
const ALL_FLAGS = RETRY | ABOUT | WITHOUT_SELF
const FIXED = 1 + 8 + 1 + 4

/** A message with events of one channel. With `isNumbered` the first line is left out: Redis adds it. */
export function sealEvents (events: readonly OutgoingEvent[], topic: string, isNumbered: boolean, signer: Signer): Buffer {
  const excluded = events.map(({ excludeConnectionId }) => excludeConnectionId === null ? null : Buffer.from(excludeConnectionId))
  let size = UNNUMBERED.length + 1 + signer.length
  const begin = size
  events.forEach(({ payload, about }, i) => {
    size += FIXED + (excluded[i]?.length ?? 0) + payload.length + (about === undefined ? 0 : 2 + about.length)
  })
  const out = Buffer.allocUnsafe(size)
  let at = begin
  events.forEach(({ payload, messageId, isRetry, about, withoutSelf }, i) => {
    const excludeConnectionId = excluded[i] ?? null
    at = out.writeUInt8((isRetry ? RETRY : 0) | (about === undefined ? 0 : ABOUT) | (withoutSelf === true ? WITHOUT_SELF : 0), at)
    at = out.writeDoubleBE(messageId, at)
    at = out.writeUInt8(excludeConnectionId?.length ?? 0, at)
    if (excludeConnectionId !== null) at += excludeConnectionId.copy(out, at)
    if (about !== undefined) {
      at = out.writeUInt16BE(about.length, at)
      at += out.write(about, at, 'latin1')
    }
    at = out.writeUInt32BE(payload.length, at)
    at += payload.copy(out, at)
  })
  return seal(out, topic, signer).subarray(isNumbered ? UNNUMBERED.length : 0)
}

/** A message with a text for a node. */
export function sealText (text: string, topic: string, signer: Signer): Buffer {
  const begin = UNNUMBERED.length + 1 + signer.length
  const out = Buffer.allocUnsafe(begin + Buffer.byteLength(text))
  out.write(text, begin)
  return seal(out, topic, signer)
}

/** Writes everything before the content. */
function seal (out: Buffer, topic: string, signer: Signer): Buffer {
  UNNUMBERED.copy(out)
  out.writeUInt8(signer.length, UNNUMBERED.length)
  const begin = UNNUMBERED.length + 1 + signer.length
  if (signer.length > 0) signer.sign(topic, out.subarray(begin)).copy(out, UNNUMBERED.length + 1)
  return out
}

/** Parses a message. The content is a slice of it, not a copy. */
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
  return { number, isFirst: mark === STAR, content }
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= DIGIT_0 && byte <= DIGIT_9

/** The events in the content of a channel's message; null if it is malformed. Payloads are slices, not copies. */
export function readEvents (content: Buffer): OutgoingEvent[] | null {
  const events: OutgoingEvent[] = []
  for (let at = 0; at < content.length;) {
    if (content.length - at < FIXED) return null
    const flags = content.readUInt8(at)
    const messageId = content.readDoubleBE(at + 1)
    const excludedLength = content.readUInt8(at + 9)
    at += 10
    if (flags > ALL_FLAGS || !Number.isSafeInteger(messageId) || messageId < 0 || content.length - at < excludedLength + 4) return null
    const excludeConnectionId = excludedLength === 0 ? null : content.toString('latin1', at, at + excludedLength)
    at += excludedLength
    let about: string | undefined
    if ((flags & ABOUT) !== 0) {
      const end = at + 2 + content.readUInt16BE(at)
      if (content.length < end + 4) return null
      about = content.toString('latin1', at + 2, end)
      at = end
    }
    const length = content.readUInt32BE(at)
    at += 4
    if (length < 5 || content.length - at < length) return null
    if (content.readUInt32BE(at) !== OPENING || content[at + length - 1] !== CLOSING) return null
    const event: OutgoingEvent = { payload: content.subarray(at, at + length), messageId, excludeConnectionId, isRetry: (flags & RETRY) !== 0 }
    if (about !== undefined) event.about = about
    if ((flags & WITHOUT_SELF) !== 0) event.withoutSelf = true
    events.push(event)
    at += length
  }
  return events.length === 0 ? null : events
}
