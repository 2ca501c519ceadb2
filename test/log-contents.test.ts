import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { createConnection } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { channels, connections, conversations, presence, realtime, stats, typing, type RealtimeOptions } from '../plugins/index.js'
import { connect, identityOf, store, until, user, type Backend, type Client } from './helper.js'

/** Part of everything that users write here, and of nothing else. */
const SECRET = 'sekret-7f3a'
const text = (of: string): string => `${SECRET} ${of}`
const options = { authorize: () => true }

interface LoggingHost { app: FastifyInstance, url: string, lines: string[] }

/** A host that logs all there is to log. */
async function start (t: Test, core: Pick<RealtimeOptions, 'database'>): Promise<LoggingHost> {
  const lines: string[] = []
  const stream = new Writable({
    write: (line: Buffer, _, done) => {
      lines.push(line.toString())
      done()
    }
  })
  const app = Fastify({ logger: { level: 'trace', stream } })
  t.teardown(async () => { await app.close() })
  await app.register(realtime, { authenticate: ({ token }) => identityOf(token), ...options, ...core })
  await app.register(connections)
  await app.register(presence)
  await app.register(typing)
  await app.register(channels, { messagesPerMinute: 0 })
  await app.register(conversations, { moderate: () => true })
  await app.register(stats)
  return { app, url: await app.listen({ port: 0, host: '127.0.0.1' }), lines }
}

/** Does all that users can do with texts, whether it works or not. Returns ids of messages that were stored. */
async function act (host: LoggingHost, of: string): Promise<number[]> {
  const { app } = host
  const ids: number[] = []
  // Others each time: whoever sends what is refused too often is sent away.
  const [one, two]: [Client, Client] = [await connect(host, user(1)), await connect(host, user(2))]
  const send = async (event: string, data: object): Promise<void> => {
    const answer = await one.request(event, data).catch(() => ({}))
    if (typeof answer.messageId === 'number' && event.startsWith('message:') && !('targetId' in answer)) ids.push(answer.messageId)
  }
  const post = async (method: 'POST' | 'PATCH' | 'DELETE', path: string, payload?: object | string): Promise<void> => {
    const headers = { authorization: `Bearer ${Buffer.from(JSON.stringify(user(2))).toString('base64url')}`, ...payload === undefined ? {} : { 'content-type': 'application/json' } }
    await app.inject({ method, url: `${app.realtime.prefix}${path}`, headers, ...payload === undefined ? {} : { payload } })
  }
  const content = { message: text(of), data: { hidden: text(of) } }
  await Promise.all([
    send('message:direct', { recipientId: 2, conversationId: 'c', ...content }),
    send('message:group', { channel: 'group.a', conversationId: 'c', ...content }),
    send('message:group', { channel: 'group.a', conversationId: 'c', ...content }),
    send('notification:send', { recipientIds: [2], title: text(of), body: text(of) }),
    send('broadcast:message', { message: text(of) }),
    send('user:presence', { status: 'busy', lastMessage: text(of), data: { hidden: text(of) } }),
    post('POST', '/messages/direct', { recipient_id: 1, conversation_id: 'c', message: text(of) })
  ])
  const [edited = 1, deleted = 2] = ids
  await Promise.all([
    send('message:edit', { messageId: edited, ...content }),
    send('message:delete', { messageId: deleted }),
    post('PATCH', `/messages/${deleted}`, content)
  ])
  await post('DELETE', `/messages/${edited}`)
  // What is refused.
  await send('message:group', { channel: 'group.a', conversationId: 'c', message: text(of).repeat(500), data: content.data })
  await send('message:group', { channel: 'group.a', conversationId: 'c', message: 7, data: text(of) })
  two.socket.send(`{"event":"message:group","data":{"message":"${text(of)}`)
  two.socket.send(`${text(of)}`)
  await post('POST', '/messages/group', `{"message":"${text(of)}`)
  await post('POST', '/messages/group', `${text(of)}`)
  await post('POST', '/messages/group', { channel: 'group.a', conversation_id: 'c', message: [text(of)] })
  await post('POST', '/presence/update', { status: text(of), last_message: text(of) })
  for (const client of [one, two]) await client.end()
  return ids
}

for (const backend of ['servers', 'embedded'] satisfies Backend[]) {
  void t.test(`no log line has a text that a user wrote, edited or deleted, whatever fails: ${backend}`, async (t) => {
    const shared = await store(t, backend)
    const host = await start(t, shared)
    const { db } = internalsOf(host.app).database
    const run = async (statement: string): Promise<void> => { await db.executeQuery({ sql: statement, parameters: [], query: { kind: 'RawNode' }, queryId: { queryId: 'test' } } as never) }
    t.equal((await act(host, 'while all works')).length, 3)

    if (backend === 'servers') {
      const admin = await createConnection(String(shared.database))
      t.teardown(async () => { await admin.end() })
      const broken = async (before: string[], after: string[], of: string): Promise<void> => {
        for (const statement of before) await admin.query(statement)
        await act(host, of)
        for (const statement of after) await admin.query(statement)
      }
      await broken(["create trigger refuse before insert on websocket_events for each row signal sqlstate '45000' set message_text = new.payload"], ['drop trigger refuse'], 'a trigger that quotes the row')
      await broken(['create trigger refuse before insert on websocket_events for each row set new.retry_count = new.payload'], ['drop trigger refuse'], 'a value that is quoted')
      await broken(['rename table websocket_events to elsewhere'], ['rename table elsewhere to websocket_events'], 'no table')
      // Connections that the server ends in the middle of statements.
      let isOver = false
      const killing = (async () => {
        while (!isOver) {
          const [rows] = await admin.query('select id from information_schema.processlist where db = database() and id <> connection_id()') as unknown as [Array<{ id: number }>]
          for (const { id } of rows) await admin.query(`kill ${id}`).catch(() => {})
          await sleep(10)
        }
      })()
      await act(host, 'connections that are killed')
      isOver = true
      await killing
    } else {
      await run('create trigger refuse before insert on websocket_events begin select raise(abort, \'refused\'); end')
      await act(host, 'a trigger')
      await run('drop trigger refuse')
      await run('alter table websocket_events rename to elsewhere')
      await act(host, 'no table')
      await run('alter table elsewhere rename to websocket_events')
    }
    await until('it works again', async () => (await act(host, 'in the end')).length === 3)
    await host.app.close()
    const wrong = host.lines.filter((line) => line.includes(SECRET))
    t.strictSame(wrong.map((line) => line.slice(0, 2000)), [])
    t.ok(host.lines.length > 50, `${host.lines.length} lines`)
    if (backend === 'servers') t.ok(host.lines.some((line) => /"level":(40|50)/.test(line)), 'and failures were logged')
  })
}
