import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import t from 'tap'
import { Channel, ClaimedId, Id, IdList, SenderId, withIds } from '../lib/id-schemas.js'
import { Ids } from '../lib/ids.js'

const integers = new Ids('integer')
const strings = new Ids('string')

t.test('Integer ids are positive safe integers, and nothing that only looks like one', async (t) => {
  for (const id of [1, 7, Number.MAX_SAFE_INTEGER]) t.ok(integers.isId(id), String(id))
  for (const id of [0, -1, 1.5, NaN, Infinity, 2 ** 53, '7', null, undefined, true, {}]) t.notOk(integers.isId(id), JSON.stringify(id))
  t.equal(integers.read('7'), 7)
  for (const text of ['', '0', '07', '0x7', '1e3', ' 7', '7.0', '9007199254740992', 'ann']) t.equal(integers.read(text), null, text)
})

t.test('String ids are kept as they are, and never taken for numbers', async (t) => {
  const ids = ['ann', 'Ann', '007', '1e3', 'auth0|5f7', 'user_2x', 'a@b.co', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'a+b=c', '3f2504e0-4f89-41d3-9a0c-0305e82c3301', 'x'.repeat(64)]
  for (const id of ids) {
    t.ok(strings.isId(id), id)
    t.equal(strings.read(id), id)
    t.equal(strings.parse(id), id)
  }
  for (const id of ['', 'a/b', 'a:b', 'a b', 'ä', 'x'.repeat(65), 'a\n', 7, null]) t.notOk(strings.isId(id), String(id))
})

t.test('Lists are ordered by number, or by bytes', async (t) => {
  t.strictSame([10, 9, 1].toSorted((a, b) => integers.compare(a, b)), [1, 9, 10])
  t.strictSame(['b', 'B', 'a', '10', '9'].toSorted((a, b) => strings.compare(a as never, b as never)), ['10', '9', 'B', 'a', 'b'])
})

t.test('One schema shows and checks the kind of ids in use, at every depth', async (t) => {
  const schema = Type.Object({
    userId: Id, senderId: SenderId, claim: Type.Optional(ClaimedId), list: Type.Array(Id, { minItems: 1 }), messageId: Type.Integer(),
    query: Type.Optional(IdList), channel: Type.Optional(Channel)
  })
  t.equal(withIds(schema, 'integer'), schema, 'integers are what is written')
  const text = withIds(schema, 'string')
  const good = { userId: 'ann', senderId: '', claim: '007', list: ['ben'], messageId: 5, query: 'ann,auth0|7', channel: 'private-user.auth0|7@x+y=z' }
  t.ok(Value.Check(text, good))
  for (const wrong of [{ userId: 7 }, { list: [7] }, { list: [] }, { messageId: 'x' }, { senderId: 0 }, { userId: 'a/b' }, { query: 'a b' }, { channel: '|a' }]) {
    t.notOk(Value.Check(text, { ...good, ...wrong }), JSON.stringify(wrong))
  }
  t.ok(Value.Check(schema, { userId: 7, senderId: 0, claim: '7', list: [1], messageId: 5, query: '1,2', channel: 'group.a' }))
  t.notOk(Value.Check(schema, { userId: 7, senderId: 0, list: [1], messageId: 5, channel: 'group|a' }))
  t.match(JSON.parse(JSON.stringify(text)), { type: 'object', required: ['userId', 'senderId', 'list', 'messageId'], properties: { userId: { type: 'string' }, messageId: { type: 'integer' } } })
})
