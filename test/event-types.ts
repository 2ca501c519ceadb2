import { Type } from '@sinclair/typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import type { Kysely as Kysely028, Transaction as Transaction028 } from 'kysely'
import type { Kysely as Kysely029, Transaction as Transaction029 } from 'kysely-029'
import Type1 from 'typebox'
import { WebSocketClient } from '../client/src/index.js'
import {
  channels, connections, defineEvents, presence, realtime, stats, typing, type ReceivedEvents, type SentEvents
} from '../plugins/index.js'

/** Types only: what the compiler says of this file is the test. */

export const events = defineEvents({
  'ticket:opened': { data: Type.Object({ ticket: Type.Integer(), note: Type.Optional(Type.String()) }) },
  'ticket:moved': { data: Type1.Object({ ticket: Type1.Integer(), to: Type1.Union([Type1.Literal('open'), Type1.Literal('closed')]), by: Type1.Optional(Type1.String()) }), direction: 'both' },
  'ticket:closed': {
    data: {
      type: 'object',
      properties: { ticket: { type: 'integer' }, tags: { type: 'array', items: { type: 'string' } }, reason: { enum: ['done', 'spam'] }, by: { type: ['string', 'null'] } },
      required: ['ticket', 'reason']
    },
    direction: 'client',
    durable: false
  }
})

declare module '../lib/register.js' {
  interface Register { events: typeof events }
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
const holds = <T extends true>(): T | undefined => undefined
type Received = ReceivedEvents<typeof events>
type Sent = SentEvents<typeof events>

holds<Same<Received['ticket:opened'], { ticket: number, note?: string, userId: number, channel: string, timestamp: string, messageId: number }>>()
holds<Same<Received['ticket:moved'], { ticket: number, to: 'open' | 'closed', by?: string, userId: number, channel: string, timestamp: string, messageId: number }>>()
holds<Same<Received['ticket:closed'], { ticket: number, reason: 'done' | 'spam', tags?: string[], by?: string | null, userId: number, channel: string, timestamp: string }>>()
holds<Same<keyof Sent, 'ticket:moved' | 'ticket:closed'>>()
holds<Same<Sent['ticket:closed']['ack'], { timestamp: string }>>()
holds<Same<Sent['ticket:moved']['ack'], { messageId: number, timestamp: string }>>()
holds<Same<Sent['ticket:moved']['data'], { ticket: number, to: 'open' | 'closed', by?: string, channel: string, dedupeId?: string }>>()

export async function host ({ realtime: { channels } }: FastifyInstance, old: Kysely028<object>, recent: Kysely029<object>): Promise<void> {
  const group = { tenantId: 1, channel: 'group.x' }
  await channels.publish({ ...group, event: 'ticket:opened', data: { ticket: 5 } })
  await channels.publish({ ...group, event: 'ticket:moved', data: { ticket: 5, to: 'closed' } })
  // @ts-expect-error -- the declaration says that it is a number
  await channels.publish({ ...group, event: 'ticket:opened', data: { ticket: 'five' } })
  // @ts-expect-error -- one of two
  await channels.publish({ ...group, event: 'ticket:moved', data: { ticket: 5, to: 'elsewhere' } })
  // @ts-expect-error -- required
  channels.emit({ ...group, event: 'ticket:closed', data: { ticket: 5 } })
  await channels.publish({ ...group, event: 'anything:else', data: { any: 'thing' } })
  await channels.publish({ ...group, event: 'message:group', data: { message: 'x', conversationId: 'c' } })
  // @ts-expect-error -- built-in events are known
  await channels.publish({ ...group, event: 'message:group', data: { text: 'x' } })

  const event = { ...group, event: 'anything:else', data: {} }
  await old.transaction().execute(async (transaction) => await channels.publish({ ...event, transaction }))
  await recent.transaction().execute(async (transaction) => await channels.publish({ ...event, transaction }))
  const started = { old: await old.startTransaction().execute(), recent: await recent.startTransaction().execute() }
  await channels.publish({ ...event, transaction: started.old })
  await channels.publish({ ...event, transaction: started.recent })
  const ofTables = async (transactions: { old: Transaction028<{ orders: { id: number } }>, recent: Transaction029<{ orders: { id: number } }> }): Promise<void> => {
    await channels.group({ ...group, message: 'x', conversationId: 'c', transaction: transactions.old })
    await channels.direct({ tenantId: 1, recipientId: 2, message: 'x', conversationId: 'c', transaction: transactions.recent })
  }
  await ofTables({} as Parameters<typeof ofTables>[0])
  // @ts-expect-error -- no transaction
  await channels.publish({ ...event, transaction: {} })
  // @ts-expect-error -- not within a transaction
  await channels.publish({ ...event, transaction: old })
  // @ts-expect-error -- not within a transaction
  await channels.publish({ ...event, transaction: recent })
}

export function page (): void {
  const client = new WebSocketClient<Received>({ baseUrl: '/api/websocket' })
  client.on('ticket:moved', ({ to, messageId }) => `${to satisfies 'open' | 'closed'} ${messageId.toFixed()}`)
  client.on('ticket:opened', ({ note, userId, channel }) => `${note?.trim()} ${userId.toFixed()} ${channel}`)
  client.on('ticket:closed', ({ reason, tags }) => `${reason satisfies 'done' | 'spam'} ${tags?.join()}`)
  // @ts-expect-error -- no such field
  client.on('ticket:opened', ({ colour }) => { void colour })
  // @ts-expect-error -- no such event
  client.on('ticket:lost', () => {})
}

/** What a page sends and is answered, from the same declaration. */
export async function form (): Promise<unknown> {
  const client = new WebSocketClient<Received>({ baseUrl: '/api/websocket' })
  const { timestamp } = await client.send('ticket:moved', { channel: 'group.x', ticket: 5, to: 'closed', dedupeId: 'k' })
  await client.send('ticket:closed', { channel: 'group.x', ticket: 5, reason: 'done', tags: ['a'] })
  // @ts-expect-error -- one of two
  await client.send('ticket:moved', { channel: 'group.x', ticket: 5, to: 'elsewhere' })
  // @ts-expect-error -- a number
  await client.send('ticket:closed', { channel: 'group.x', ticket: 'five', reason: 'done' })
  // @ts-expect-error -- required
  await client.send('ticket:closed', { channel: 'group.x', ticket: 5 })
  // @ts-expect-error -- the channel
  await client.send('ticket:closed', { ticket: 5, reason: 'done' })
  return timestamp
}

/** Hosts whose app has another type provider, logger or server. */
export async function apps (): Promise<void> {
  const options = { database: 'sqlite::memory:', authenticate: () => null }
  const zod = Fastify().withTypeProvider<ZodTypeProvider>()
  await zod.register(realtime, options)
  await zod.register(connections, { pingInterval: 1000 })
  const secure = Fastify({ http2: true, https: { allowHTTP1: true } })
  await secure.register(realtime, options)
  await secure.register(channels, { events })
  const logged = Fastify({ loggerInstance: {} as FastifyBaseLogger & { own: true } })
  await logged.register(realtime, options)
  for (const plugin of [connections, presence, typing, channels, stats]) await logged.register(plugin)
  // @ts-expect-error -- no such option
  await zod.register(connections, { pingIntervall: 1000 })
}
