import t from 'tap'
import type { OutgoingEvent } from '../lib/backplane/contract.js'
import { open, readEvents, sealEvents, sealText, type Opened } from '../lib/backplane/envelope.js'
import { Signer } from '../lib/backplane/signer.js'
import { payloadOf } from './backplane/node.js'
import { seeded } from './suites.js'

const TOPIC = 'rt:id:0:channel:{1/group.7}'
const unsigned = new Signer([])
const [first, second] = ['a'.repeat(32), 'ž'.repeat(40)] as const

/** As Redis puts it in front of a numbered message. */
const numbered = (number: number | string, sealed: Buffer, mark = '+'): Buffer => Buffer.concat([Buffer.from(`rt1${mark}${number}\n`), sealed])

const random = seeded(3)
const randomBytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => random(256)))
const randomFrames = (): OutgoingEvent[] => Array.from({ length: random(4) + 1 }, (): OutgoingEvent => ({
  payload: payloadOf(randomBytes(random(300))),
  messageId: random(3) === 0 ? 0 : random(2 ** 32) * 2 ** 20 + random(2 ** 20),
  excludeConnectionId: random(2) === 0 ? null : 'c'.repeat(random(255) + 1),
  isRetry: random(2) === 0
}))

function opened (message: Buffer, topic: string, signer: Signer): Opened {
  const found = open(message, topic, signer)
  if (typeof found === 'string') throw new Error(found)
  return found
}

t.test('The frames of one Redis message come out as they went in, signed or not', async (t) => {
  for (const signer of [unsigned, new Signer([first])]) {
    for (let round = 0; round < 200; round++) {
      const frames = randomFrames()
      const number = random(2) === 0 ? null : random(2 ** 32) * 2 ** 20 + 1
      const sealed = sealEvents(frames, TOPIC, number !== null, signer)
      const { content, ...rest } = opened(number === null ? sealed : numbered(number, sealed, round % 2 === 0 ? '+' : '*'), TOPIC, signer)
      const decoded = readEvents(content) ?? []
      const same = decoded.length === frames.length && frames.every((frame, i) => {
        const other = decoded[i]
        return other?.payload.equals(frame.payload) === true && other.messageId === frame.messageId &&
          other.excludeConnectionId === frame.excludeConnectionId && other.isRetry === frame.isRetry
      })
      if (!same) t.strictSame(decoded, frames)
      if (rest.number !== number || rest.isFirst !== (number !== null && round % 2 === 1)) t.strictSame(rest, { number, isFirst: round % 2 === 1 })
    }
  }
  const { content, ...rest } = opened(sealText('žluťoučký', TOPIC, unsigned), TOPIC, unsigned)
  t.strictSame([content.toString(), rest], ['žluťoučký', { number: null, isFirst: false }])
})

t.test('Anything that is not an envelope is malformed', async (t) => {
  const sealed = sealEvents([{ payload: payloadOf('x'), messageId: 7, excludeConnectionId: 'tab', isRetry: false }], TOPIC, true, unsigned)
  const faults = [
    '', 'r', 'rt', 'rt1', 'rt1-', 'rt1-\n', 'rt1+', 'rt1+\n', 'rt1+\n\0', 'rt1+7', 'rt1+7\n', 'rt1+7 \n\0', 'rt1+-7\n\0', 'rt1+1.5\n\0', 'rt1-7\n\0',
    'rt1+99999999999999999\n\0', 'rt1+9999999999999999\n\0', 'rt1!7\n\0', 'rt1 7\n\0', 'hello', 'rubbish', '12\nold', '{"kind":"question"}', '!1700000000000',
    'rt1-\n\u0020too short a signature', 'RT1-\n\0'
  ]
  for (const fault of faults) t.equal(open(Buffer.from(fault, 'latin1'), TOPIC, unsigned), 'malformed', fault)
  for (const version of ['rt0-\n\0', 'rt2-\n\0', 'rt12+7\n\0', 'rt9']) t.equal(open(Buffer.from(version), TOPIC, unsigned), 'version', version)

  const { content } = opened(numbered(1, sealed), TOPIC, unsigned)
  t.equal(readEvents(content)?.length, 1)
  for (let length = 0; length < content.length; length++) t.equal(readEvents(content.subarray(0, length)), null, `cut to ${length} bytes`)
  const spoiled = (at: number, bytes: number[]): Buffer => {
    const copy = Buffer.from(content)
    copy.set(bytes, at)
    return copy
  }
  t.equal(readEvents(spoiled(0, [2])), null, 'a flag that nobody knows')
  t.equal(readEvents(spoiled(1, [0x7f, 0xf8])), null, 'an id that is no number')
  t.equal(readEvents(spoiled(1, [0xbf, 0xf0])), null, 'an id below zero')
  t.equal(readEvents(spoiled(1, [0x3f, 0xe0, 0, 0, 0, 0, 0, 0])), null, 'half an id')
  t.equal(readEvents(spoiled(9, [255])), null, 'a name longer than the message')
  t.equal(readEvents(spoiled(content.length - 1, [0x20])), null, 'a payload that is not a frame for sockets')
  t.equal(readEvents(spoiled(13, [0xff, 0xff, 0xff, 0xff])), null, 'a payload of 4 GB')

  for (let round = 0; round < 5000; round++) {
    const bytes = randomBytes(random(80))
    const message = round % 2 === 0 ? bytes : Buffer.concat([Buffer.from('rt1+1\n\0'), bytes])
    const found = open(message, TOPIC, unsigned)
    if (typeof found !== 'string') readEvents(found.content)
  }
  t.pass('and nothing throws')
})

t.test('With a secret only messages signed with it, for this topic, are accepted', async (t) => {
  const frames = randomFrames()
  const [old, rotated] = [new Signer([first]), new Signer([second, first])]
  const signed = sealEvents(frames, TOPIC, false, old)
  t.type(open(signed, TOPIC, old), 'object')
  t.type(open(signed, TOPIC, rotated), 'object', 'signed with an older secret of the list')
  t.type(open(sealEvents(frames, TOPIC, false, rotated), TOPIC, new Signer([second])), 'object', 'the first of the list signs')
  t.type(open(signed, TOPIC, unsigned), 'object', 'a node without a secret accepts everything')
  t.equal(open(signed, TOPIC, new Signer([second])), 'signature')
  t.equal(open(sealEvents(frames, TOPIC, false, unsigned), TOPIC, old), 'signature', 'unsigned')
  t.equal(open(signed, TOPIC.replace('{1/', '{2/'), old), 'signature', 'played again on a channel of another tenant')
  for (let at = 6; at < signed.length; at++) {
    const changed = Buffer.from(signed)
    changed[at] = (changed[at] as number) ^ 1
    if (open(changed, TOPIC, old) !== 'signature') t.fail(`byte ${at} was changed`)
  }
})
