import type { Frame } from './contract.js'

/**
 * Frames of one channel as one Redis message. A small binary header before each payload carries what routing needs, so
 * that a node hands the bytes on to its sockets without parsing them:
 *
 *     sequence (decimal) \n  { flags u8, messageId f64, except length u8, except, payload length u32, payload } …
 *
 * The sequence is put in front by Redis, in the script that publishes.
 */

const AGAIN = 1
const FIXED = 1 + 8 + 1 + 4
const NEWLINE = 0x0a

export function encodeFrames (frames: readonly Frame[]): Buffer {
  const excepts = frames.map(({ except }) => except === null ? null : Buffer.from(except))
  let size = 0
  frames.forEach((frame, i) => { size += FIXED + (excepts[i]?.length ?? 0) + frame.payload.length })
  const out = Buffer.allocUnsafe(size)
  let at = 0
  frames.forEach((frame, i) => {
    const except = excepts[i] ?? null
    at = out.writeUInt8(frame.again ? AGAIN : 0, at)
    at = out.writeDoubleBE(frame.messageId, at)
    at = out.writeUInt8(except?.length ?? 0, at)
    if (except !== null) at += except.copy(out, at)
    at = out.writeUInt32BE(frame.payload.length, at)
    at += frame.payload.copy(out, at)
  })
  return out
}

/** The payloads are slices of the message, not copies. */
export function decodeMessage (message: Buffer): { sequence: number, frames: Frame[] } {
  let at = message.indexOf(NEWLINE)
  const sequence = Number(message.toString('latin1', 0, at))
  at += 1
  const frames: Frame[] = []
  while (at < message.length) {
    const flags = message.readUInt8(at)
    const messageId = message.readDoubleBE(at + 1)
    const exceptLength = message.readUInt8(at + 9)
    at += 10
    const except = exceptLength === 0 ? null : message.toString('latin1', at, at + exceptLength)
    at += exceptLength
    const length = message.readUInt32BE(at)
    at += 4
    frames.push({ payload: message.subarray(at, at + length), messageId, except, again: (flags & AGAIN) !== 0 })
    at += length
  }
  return { sequence, frames }
}
