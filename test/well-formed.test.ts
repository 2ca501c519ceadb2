import t from 'tap'
import { illFormed, illFormedFrame } from '../lib/wire/well-formed.js'
import { allowAll, buildHost, connect, rest, user } from './helper.js'

const nested = (levels: number): unknown => levels === 0 ? 1 : { a: nested(levels - 1) }

t.test('data are checked to the last level and name, and the first fault names its field', async (t) => {
  t.equal(illFormed({ message: 'žluťoučký 🙂 \n', list: [1, null, { deep: ['x'] }] }), null)
  t.match(illFormed({ message: 'a\ud83d' }), /^message: must be well-formed Unicode/)
  t.match(illFormed({ message: 'a\udc00b' }), /^message: /)
  t.match(illFormed({ a: [{ b: 'x\0' }] }), /^a\.0\.b: must not contain NUL/)
  t.match(illFormed({ a: { '\ud83d': 1 } }), /^a: .*names/)
  t.equal(illFormed(nested(16)), null)
  t.match(illFormed(nested(17)), /^(a\.)+a: must not be nested deeper than 16 levels/)
  let deep: unknown = []
  for (let i = 0; i < 100_000; i++) deep = [deep]
  t.match(illFormed({ deep }), /^deep\.[0.]+: must not be nested/)
})

t.test('a frame without escapes is not looked at twice, and none slips through', async (t) => {
  const check = (text: string): string | undefined => illFormedFrame(text, JSON.parse(text) as object)?.message
  t.equal(check('{"event":"x","data":{"m":"{{{{{{{{{{{{{{{{{{{{{{{[[["}}'), undefined)
  t.equal(check('{"event":"x","data":{"m":"\\u00e9"}}'), undefined)
  t.match(check('{"event":"x","data":{"m":"\\ud83d"}}'), /^m: /)
  t.match(check('{"event":"x","data":{"m":"\\u0000"}}'), /^m: /)
  t.match(check('{"event":"x","data":{},"id":"\\uD83D"}'), /^id: /)
  t.equal(check(JSON.stringify({ event: 'x', data: nested(16) })), undefined)
  t.match(check(JSON.stringify({ event: 'x', data: nested(17) })), /nested deeper/)
  const mixed = (levels: number): unknown => levels === 0 ? 1 : levels % 2 === 0 ? [mixed(levels - 1)] : { a: mixed(levels - 1) }
  t.equal(check(JSON.stringify({ event: 'x', data: { a: mixed(15) } })), undefined)
  t.match(check(JSON.stringify({ event: 'x', data: { a: mixed(16) } })), /nested deeper/)
})

t.test('half a surrogate pair, NUL and deep nesting are refused at the door, and nothing else waits for them', async (t) => {
  const host = await buildHost(t, { backend: 'servers', options: allowAll })
  const [ann, ben] = [await connect(host, user(1)), await connect(host, user(2))]
  await ben.request('subscribe', { channel: 'group.x' })
  const send = async (message: unknown, more: object = {}) => await ann.request('message:group', { channel: 'group.x', message, conversationId: 'c', ...more })
  for (const message of ['a\ud83d', '\udc00', 'a\0b']) {
    await t.rejects(send(message), { code: 'RT_INVALID_DATA', message: /^message: / })
    t.match(await rest(host, user(1), 'POST', '/messages/group', { channel: 'group.x', message, conversation_id: 'c' }),
      { status: 400, body: { statusCode: 400, code: 'RT_INVALID_DATA', error: 'Bad Request', message: /^message: / } })
    t.match(await rest(host, user(1), 'POST', '/presence/update', { status: 'busy', last_message: message }), { status: 400, body: { code: 'RT_INVALID_DATA' } })
    await t.rejects(ann.request('user:presence', { status: 'away', lastMessage: message }), { code: 'RT_INVALID_DATA', message: /^lastMessage: / })
  }
  await t.rejects(send('x', { extra: nested(16) }), { code: 'RT_INVALID_DATA', message: /^extra\./ })
  // Counted in UTF-16 units, of which this character has two.
  const status = async (message: string) => (await rest(host, user(1), 'POST', '/messages/group', { channel: 'group.x', message, conversation_id: 'c' })).status
  await t.rejects(send('🙂'.repeat(2501)), { code: 'RT_INVALID_DATA', message: /^message: / })
  t.equal(await status('🙂'.repeat(2501)), 400)
  t.match([await send('🙂'.repeat(2500)), await status('🙂'.repeat(2500))], [{ messageId: Number }, 202])
  for (let i = 0; i < 2; i++) await ben.next('message:group')
  const { messageId } = await send('🙂')
  t.match(await ben.next('message:group'), { messageId, message: '🙂' })
})
