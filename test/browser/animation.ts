import { crc32 } from 'node:zlib'

const SIGNATURE = 8
const HEADER = 25 // of a PNG: length, name, 13 bytes, checksum

interface Chunk { name: string, data: Buffer }

function chunksOf (png: Buffer): Chunk[] {
  const chunks: Chunk[] = []
  for (let at = SIGNATURE; at < png.length;) {
    const length = png.readUInt32BE(at)
    chunks.push({ name: png.toString('latin1', at + 4, at + 8), data: png.subarray(at + 8, at + 8 + length) })
    at += length + 12
  }
  return chunks
}

function chunk (name: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data])
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  checksum.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, checksum])
}

/** An animated PNG of screenshots of one size, shown for these milliseconds each, for ever. */
export function animate (frames: Array<{ png: Buffer, ms: number }>): Buffer {
  const [first] = frames
  if (first === undefined) throw new Error('no frames')
  let sequence = 0
  const numbered = (rest: Buffer): Buffer => {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(sequence++)
    return Buffer.concat([number, rest])
  }
  const control = Buffer.alloc(8)
  control.writeUInt32BE(frames.length)
  const parts = frames.flatMap(({ png, ms }, i) => {
    const shown = Buffer.alloc(22)
    png.copy(shown, 0, SIGNATURE + 8, SIGNATURE + 16) // width and height
    shown.writeUInt16BE(ms, 16)
    shown.writeUInt16BE(1000, 18)
    const data = Buffer.concat(chunksOf(png).filter(({ name }) => name === 'IDAT').map((part) => part.data))
    return [chunk('fcTL', numbered(shown)), i === 0 ? chunk('IDAT', data) : chunk('fdAT', numbered(data))]
  })
  return Buffer.concat([first.png.subarray(0, SIGNATURE + HEADER), chunk('acTL', control), ...parts, chunk('IEND', Buffer.alloc(0))])
}
