import { Type } from '@sinclair/typebox'
import t from 'tap'
import Type1 from 'typebox'
import { z } from 'zod'
import { internalsOf } from '../lib/internals.js'
import { OptionError, type CustomEvent } from '../plugins/index.js'
import { allowAll, connect, user } from './helper.js'
import { otherHost } from './other-hosts.js'

/** One event, as people declare it with each of the libraries. */
const declarations: Record<string, CustomEvent['data']> = {
  'TypeBox 0.34': Type.Object({
    card: Type.String({ maxLength: 10 }),
    to: Type.Union([Type.Object({ column: Type.Integer() }), Type.Object({ board: Type.String({ format: 'uuid' }) })]),
    tags: Type.Optional(Type.Array(Type.Object({ name: Type.String() }))),
    at: Type.Optional(Type.Tuple([Type.Number(), Type.Number()])),
    votes: Type.Optional(Type.Record(Type.String(), Type.Integer()))
  }),
  'typebox 1.x': Type1.Object({
    card: Type1.String({ maxLength: 10 }),
    to: Type1.Union([Type1.Object({ column: Type1.Integer() }), Type1.Object({ board: Type1.String({ format: 'uuid' }) })]),
    tags: Type1.Optional(Type1.Array(Type1.Object({ name: Type1.String() }))),
    at: Type1.Optional(Type1.Tuple([Type1.Number(), Type1.Number()])),
    votes: Type1.Optional(Type1.Record(Type1.String(), Type1.Integer()))
  }),
  'plain JSON Schema': {
    type: 'object',
    properties: {
      card: { type: 'string', maxLength: 10 },
      to: { oneOf: [{ $ref: '#/$defs/column' }, { type: 'object', properties: { board: { type: 'string', format: 'uuid' } }, required: ['board'] }] },
      tags: { type: 'array', items: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } },
      at: { type: 'array', items: [{ type: 'number' }, { type: 'number' }], minItems: 2, additionalItems: false },
      votes: { type: 'object', additionalProperties: { type: 'integer' } }
    },
    required: ['card', 'to'],
    $defs: { column: { type: 'object', properties: { column: { type: 'integer' } }, required: ['column'] } }
  } as CustomEvent['data'],
  'a Zod schema written as JSON Schema': z.toJSONSchema(z.object({
    card: z.string().max(10),
    to: z.union([z.object({ column: z.int() }), z.object({ board: z.uuid() })]),
    tags: z.array(z.object({ name: z.string() })).optional(),
    at: z.tuple([z.number(), z.number()]).optional(),
    votes: z.record(z.string(), z.int()).optional()
  })) as CustomEvent['data']
}

for (const [library, data] of Object.entries(declarations)) {
  t.test(`an event declared with ${library} is checked, cleaned and told`, async (t) => {
    const host = await otherHost(t, { core: allowAll, channels: { events: { 'card:moved': { data, direction: 'both' } } } })
    const [sender, reader] = [await connect(host, user(1)), await connect(host, user(2))]
    await reader.request('subscribe', { channel: 'group.x' })
    const move = { channel: 'group.x', card: 'c1', to: { board: '0d4ee5a6-6b2a-4b5e-9b47-35f1f0a8f3b1' }, tags: [{ name: 'red' }], at: [1, 2.5], votes: { ann: 1 } }
    const { messageId, timestamp } = await sender.request('card:moved', { ...move, userId: 7, messageId: 7, timestamp: 'now', extra: 1 })
    t.strictSame(await reader.next('card:moved'), { messageId, userId: 1, timestamp, ...move }, 'what is not declared is dropped, and nobody else is spoken for')
    await sender.request('card:moved', { ...move, tags: [{ name: 'red', colour: 'f00' }], to: { column: 2 } })
    t.match(await reader.next('card:moved'), { tags: [{ name: 'red' }], to: { column: 2 } })
    const wrong: Array<[change: object, field: RegExp]> = [
      [{ card: 'far too long' }, /card/], [{ card: 5 }, /card/], [{ card: undefined }, /card/], [{ to: {} }, /to/], [{ to: { board: 'no uuid' } }, /to/],
      [{ tags: [{}] }, /tags/], [{ tags: 'red' }, /tags/], [{ at: [1] }, /at/], [{ at: [1, 'x'] }, /at/], [{ votes: { ann: 'x' } }, /votes/]
    ]
    const { channels } = host.app.realtime
    const { channel, ...own } = move
    for (const [change, message] of wrong) {
      await t.rejects(sender.request('card:moved', { ...move, ...change }), { code: 'RT_INVALID_DATA', message }, JSON.stringify(change))
      await t.rejects(channels.publish({ tenantId: 1, channel, event: 'card:moved', data: { ...own, ...change } }), { code: 'RT_INVALID_DATA', message })
    }
    await channels.publish({ tenantId: 1, channel, event: 'card:moved', data: own })
    t.match(await reader.next('card:moved'), { userId: 0, ...own })
    const described = internalsOf(host.app).frames.catalogue.find(({ event, direction }) => event === 'card:moved' && direction === 'client')
    t.match(JSON.parse(JSON.stringify(described?.data)), { type: 'object', required: ['card', 'to', 'channel'], properties: { card: { type: 'string', maxLength: 10 }, channel: { maxLength: 255 } } })
  })
}

t.test('a schema that allows any field gets any, except those that the server fills in', async (t) => {
  for (const data of [Type.Object({}, { additionalProperties: true }), { type: 'object' } as const, Type.Object({ a: Type.Any() }, { additionalProperties: Type.Number() })]) {
    const host = await otherHost(t, { core: allowAll, channels: { events: { 'any:thing': { data, direction: 'client' } } } })
    const [sender, reader] = [await connect(host, user(1)), await connect(host, user(2))]
    await reader.request('subscribe', { channel: 'group.x' })
    const { messageId, timestamp } = await sender.request('any:thing', { channel: 'group.x', own: 1, a: 1, userId: 2, messageId: 9, timestamp: 'x', dedupeId: 'k' })
    t.strictSame(await reader.next('any:thing'), { messageId, userId: 1, channel: 'group.x', own: 1, a: 1, timestamp })
  }
})

t.test('schemas that share an $id, or refer to themselves, are kept apart', async (t) => {
  const tree = (most: number) => Type.Recursive((This) => Type.Object({ size: Type.Integer({ maximum: most }), children: Type.Array(This) }), { $id: 'Tree' })
  const host = await otherHost(t, {
    core: allowAll, channels: { events: { 'tree:small': { data: Type.Object({ tree: tree(1) }) }, 'tree:large': { data: Type.Object({ tree: tree(100) }, { $id: 'x' }) }, 'tree:other': { data: Type.Object({}, { $id: 'x' }) } } }
  })
  const { channels } = host.app.realtime
  const publish = async (event: string, size: number) => await channels.publish({ tenantId: 1, channel: 'group.x', event, data: { tree: { size: 1, children: [{ size, children: [] }] } } })
  t.ok(await publish('tree:large', 50))
  await t.rejects(publish('tree:small', 50), { code: 'RT_INVALID_DATA', message: /^tree\.children\.0\.size: / })
})

t.test('an invalid declaration fails the registration with the reason', async (t) => {
  const wrong: Array<[event: unknown, message: RegExp]> = [
    [{ data: z.object({ a: z.string() }) }, /z\.toJSONSchema/],
    [{ data: Type.Object({ at: Type.Date() }) }, /JSON Schema.*properties.at/],
    [{ data: { type: 'object', properties: { a: { type: 'strnig' } } } }, /JSON Schema/],
    [{ data: { type: 'object', properties: { a: { $ref: '#/$defs/none' } } } }, /JSON Schema.*none/],
    [{ data: { type: 'object', properties: { a: { type: 'string', format: 'phone' } } } }, /JSON Schema.*phone/],
    [{ data: { type: 'array' } }, /JSON Schema of an object/],
    [{ data: { properties: {} } }, /JSON Schema of an object/],
    [{ data: () => {} }, /JSON Schema of an object/],
    [{ data: { type: 'object', properties: { channel: {} } } }, /channel: the server adds it/],
    [null, /must be an object/]
  ]
  for (const [event, message] of wrong) {
    const err = await otherHost(t, { channels: { events: { 'card:moved': event as CustomEvent } } }).then(() => null, (err: unknown) => err)
    t.ok(err instanceof OptionError, message.source)
    t.match((err as Error).message, /^option "events\.card:moved"/)
    t.match((err as Error).message, message)
  }
})
