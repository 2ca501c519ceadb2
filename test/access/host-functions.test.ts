import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { internalsOf } from '../../lib/internals.js'
import type { AccessRequest, Publication } from '../../plugins/index.js'
import { buildNodes, connect, open, overBackends, rest, rowsOf, socketTo, until, user } from '../helper.js'

const group = { channel: 'group.x', message: 'hello', conversationId: 'c' }
const never = async (): Promise<never> => await new Promise<never>(() => {})

overBackends((test, backend) => {
  for (const bans of [false, true]) {
    test(`clients for whom authenticate never answers, and who are gone, keep nobody out${bans ? ', while somebody is banned' : ''}`, async (t) => {
      let asked = 0
      const [a] = await buildNodes(t, {
        backend,
        options: {
          authorize: () => true,
          hostTimeout: 60_000,
          // What says who it is takes a turn, as a host's database does.
          authenticate: async ({ token }) => {
            if (token?.startsWith('hangs') === true) { asked++; return await never() }
            await sleep(1)
            return token === undefined ? null : user(1)
          }
        }
      })
      // Then upgrades are looked at before they are answered.
      if (bans) await a.app.realtime.access.ban({ tenantId: 1, userId: 9 })
      const quiet = performance.now()
      await connect(a, user(1))
      const before = performance.now() - quiet
      const headers = (i: number): Record<string, string> => ({ authorization: `Bearer hangs${i}` })
      const lost = Array.from({ length: 50 }, (_, i) => socketTo(a, { headers: headers(i) }))
      const aborting = new AbortController()
      const requests = Promise.allSettled(Array.from({ length: 50 }, async (_, i) => await fetch(`${a.url}/api/websocket/stats`, { headers: headers(50 + i), signal: aborting.signal })))
      // On a busy machine a hundred connections take their time.
      for (const deadline = Date.now() + 60_000; asked < 100 && Date.now() < deadline;) await sleep(20)
      t.equal(asked, 100, 'authenticate hangs for all of them')
      for (const client of lost) client.socket.terminate()
      aborting.abort()
      t.ok((await requests).every(({ status }) => status === 'rejected'))
      const began = performance.now()
      await connect(a, user(1))
      t.match(await rest(a, user(1), 'GET', '/stats'), { status: 200 })
      const during = performance.now() - began
      t.comment(`${before.toFixed()} ms before, ${during.toFixed()} ms during`)
      t.ok(during < 10_000, `${during} ms: nobody waited for the deadline`)
      await until('every place is free again', () => internalsOf(a.app).access.load.every(({ running, waiting }) => running + waiting === 0))
    })
  }

  test('authenticated clients subscribe while authenticate hangs', async (t) => {
    let hangs = false
    const [a] = await buildNodes(t, {
      backend,
      options: {
        authConcurrency: 10,
        hostTimeout: 60_000,
        authenticate: async ({ token }) => hangs ? await never() : token === undefined ? null : user(1),
        authorize: async () => { await sleep(1); return true }
      }
    })
    const known = await connect(a, user(1))
    hangs = true
    const stuck = Array.from({ length: 20 }, (_, i) => socketTo(a, { headers: { authorization: `Bearer ${i}` } }))
    await until('every place for logins is taken', () => internalsOf(a.app).access.load.some(({ lane, running }) => lane === 'authenticate' && running === 10))
    t.ok(await known.request('subscribe', { channel: 'group.x' }))
    for (const client of stuck) client.socket.terminate()
  })

  test('a host function that does not answer in time means not now', async (t) => {
    const [a] = await buildNodes(t, {
      backend,
      options: { hostTimeout: 200, authorize: async ({ channel }) => channel === 'group.x' || await never(), authenticate: ({ token }) => token === 'hangs' ? never() : user(1) }
    })
    const client = await connect(a, user(1))
    await t.rejects(client.request('subscribe', { channel: 'group.hangs' }), { code: 'RT_UNAVAILABLE', retryAfter: Number })
    t.ok(await client.request('subscribe', { channel: 'group.x' }))
    const response = await a.app.inject({ url: '/api/websocket/stats', headers: { authorization: 'Bearer hangs' } })
    t.match(response.json(), { statusCode: 503, code: 'RT_UNAVAILABLE' })
    const late = await open(a, { headers: { authorization: 'Bearer hangs' } })
    t.match(await late.next('error'), { code: 'RT_UNAVAILABLE', retryAfter: Number })
    t.equal(await late.closed, 1013)
  })

  test('a result of authorize is used for its frame, and for no later one', async (t) => {
    let allowed = true
    let asked = 0
    const identity = user(1)
    const [a] = await buildNodes(t, {
      backend,
      options: {
        authenticate: ({ token }) => token === undefined ? null : identity,
        authorize: async () => { const answer = allowed; asked++; await sleep(30); return answer }
      }
    })
    const first = await connect(a, user(1))
    for (let i = 0; i < 5; i++) first.send('subscribe', { channel: 'group.x' })
    await until('authorize is asked', () => asked > 0)
    first.socket.terminate()
    allowed = false
    const second = await connect(a, user(1))
    await t.rejects(second.request('subscribe', { channel: 'group.x' }), { code: 'RT_FORBIDDEN' })
    await t.rejects(second.request('subscribe', { channel: 'group.x' }), { code: 'RT_FORBIDDEN' })
  })

  test('a refusal carries the host’s message or retryAfter', async (t) => {
    const [a] = await buildNodes(t, {
      backend,
      options: {
        authorize: ({ channel, action }) => {
          if (channel === 'group.slow' && action === 'publish') return { allow: false, message: 'Slow mode', retryAfter: 7 }
          return channel === 'group.closed' ? { allow: false, message: 'Closed for the night' } : { allow: true }
        }
      }
    })
    const client = await connect(a, user(1))
    await t.rejects(client.request('subscribe', { channel: 'group.closed' }), { code: 'RT_FORBIDDEN', message: 'Closed for the night' })
    await t.rejects(client.request('message:group', { ...group, channel: 'group.slow' }), { code: 'RT_RATE_LIMITED', message: 'Slow mode', retryAfter: 7 })
    t.ok(await client.request('subscribe', { channel: 'group.slow' }))
    const slow = await rest(a, user(1), 'POST', '/messages/group', { channel: 'group.slow', message: 'hello', conversation_id: 'c' })
    t.match(slow, { status: 429, body: { code: 'RT_RATE_LIMITED', message: 'Slow mode' }, headers: { 'retry-after': '7' } })
    t.match(await rest(a, user(1), 'GET', '/events?channel=group.closed'), { status: 403, body: { message: 'Closed for the night' } })
  })

  test('authorize is called with the event, its data under the names of the frame, and the recipients', async (t) => {
    const asked: AccessRequest[] = []
    const [a] = await buildNodes(t, { backend, options: { authorize: (request) => { asked.push(request); return true } } })
    const client = await connect(a, user(1))
    const questions = async (send: () => Promise<unknown>): Promise<object[]> => {
      asked.splice(0)
      await send()
      return asked.map(({ identity: _identity, ...question }) => question)
    }
    const direct = { action: 'direct', channel: 'private-user.2', event: 'message:direct', data: { recipientId: 2, message: 'hello', conversationId: 'c' }, recipientIds: [2] }
    t.strictSame(await questions(async () => await client.request('message:direct', direct.data)), [direct])
    t.strictSame(await questions(async () => await rest(a, user(1), 'POST', '/messages/direct', { recipient_id: 2, message: 'hello', conversation_id: 'c' })), [direct])
    t.strictSame(await questions(async () => await client.request('message:group', group)), [{ action: 'publish', channel: 'group.x', event: 'message:group', data: group }])
    t.match(await questions(async () => await client.request('notification:send', { recipientIds: [2, 3], title: 't', body: 'b' })),
      [{ action: 'notify', event: 'notification:send', data: { title: 't' }, recipientIds: [2, 3] }])
    t.match(await questions(async () => await rest(a, user(1), 'POST', '/typing', { conversation_id: 'c', is_typing: true, channel: 'group.x' })),
      [{ action: 'publish', channel: 'group.x', event: 'user:typing', data: { conversationId: 'c', isTyping: true } }])
    t.strictSame(await questions(async () => await client.request('subscribe', { channel: 'group.x' })), [{ action: 'subscribe', channel: 'group.x' }])
  })

  test('a failing authorizeMany refuses nothing permanently', async (t) => {
    let fails = true
    const [a] = await buildNodes(t, {
      backend,
      options: {
        authorize: () => true,
        authorizeMany: async ({ channels }) => {
          if (fails) throw new Error('the host’s database is away')
          return channels.map((channel) => channel !== 'group.no')
        }
      }
    })
    const client = await connect(a, user(1))
    const channels = [{ channel: 'group.x' }, { channel: 'group.no' }]
    t.match((await client.request('subscribe', { channels })).channels, channels.map(({ channel }) => ({ channel, error: { code: 'RT_UNAVAILABLE', retryAfter: Number } })))
    fails = false
    t.match((await client.request('subscribe', { channels })).channels, [{ channel: 'group.x', position: Number }, { channel: 'group.no', error: { code: 'RT_FORBIDDEN' } }])
  })

  test('beforePublish changes, rejects and delays events of clients, by frame and by REST, and rejected ones are not stored', async (t) => {
    const seen: Publication[] = []
    const [a, b] = await buildNodes(t, {
      backend,
      options: { authorize: () => true },
      channels: {
        events: { 'poll:vote': { data: Type.Object({ choice: Type.Integer() }), durable: false, direction: 'both' } },
        beforePublish: async (publication) => {
          seen.push(publication)
          await sleep(1)
          const { message, choice } = publication.data
          if (message === 'rude') return { reject: 'Mind your language' }
          if (message === 'away') throw new Error('the filter is away')
          if (message === 'wrong') return { nonsense: true }
          if (choice === 1) return { choice: 2 }
          return message === 'secret' ? { ...publication.data, message: '…' } : undefined
        }
      }
    })
    const [sender, reader] = [await connect(a, user(1)), await connect(b, user(2))]
    await reader.request('subscribe', { channel: 'group.x' })
    const send = async (message: string): Promise<unknown> => await sender.request('message:group', { ...group, message })
    await t.rejects(send('rude'), { code: 'RT_REJECTED', message: 'Mind your language' })
    await t.rejects(send('away'), { code: 'RT_UNAVAILABLE' })
    await t.rejects(send('wrong'), { code: 'RT_INTERNAL' })
    const byRest = async (message: string) => await rest(a, user(1), 'POST', '/messages/direct', { recipient_id: 2, message, conversation_id: 'c' })
    t.match(await byRest('rude'), { status: 422, body: { statusCode: 422, code: 'RT_REJECTED', message: 'Mind your language' } })
    t.equal((await rowsOf(a, 'websocket_events')).filter(({ durable }) => Number(durable) === 1).length, 0)
    await send('secret')
    t.match(await reader.next('message:group'), { message: '…', userId: 1, channel: 'group.x' })
    t.match(await byRest('secret'), { status: 202 })
    t.match(await reader.next('message:direct'), { message: '…', senderId: 1 })
    await sender.request('poll:vote', { channel: 'group.x', choice: 1 })
    t.match(await reader.next('poll:vote'), { choice: 2 })
    t.match(seen.filter(({ data }) => data.message === 'secret').map(({ event, channel, via, identity }) => [event, channel, via, identity.userId]),
      [['message:group', 'group.x', 'socket', 1], ['message:direct', 'private-user.2', 'rest', 1]])
    const before = seen.length
    await a.app.realtime.channels.group({ tenantId: 1, ...group, message: 'rude' })
    t.equal(seen.length, before, 'the host’s own code is not asked')
  })

  test('only participants type in a conversation and see who types', async (t) => {
    const [a] = await buildNodes(t, {
      backend,
      options: { authorize: () => true },
      typing: { participants: ({ conversationId }) => conversationId === 'open' ? null : conversationId === 'nobody' ? [] : [1, 2] }
    })
    const [outsider, member] = [await connect(a, user(3)), await connect(a, user(1))]
    for (const whom of [{}, { channel: 'group.x' }, { recipientId: 1 }]) {
      await t.rejects(outsider.request('user:typing', { conversationId: 'c', isTyping: true, ...whom }), { code: 'RT_FORBIDDEN' })
    }
    t.match(await rest(a, user(3), 'POST', '/typing', { conversation_id: 'c', is_typing: true }), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    t.match(await rest(a, user(3), 'GET', '/typing/c'), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    t.match(await rest(a, user(1), 'GET', '/typing/nobody'), { status: 403 })
    t.ok(await member.request('user:typing', { conversationId: 'c', isTyping: true }))
    t.match(await rest(a, user(2), 'GET', '/typing/c'), { status: 200, body: { data: [{ user_id: 1 }] } })
    t.match(await rest(a, user(3), 'GET', '/typing/open'), { status: 200 })
    t.ok(await outsider.request('user:typing', { conversationId: 'open', isTyping: true }))
  })

  test('a user with many calls leaves room for others', async (t) => {
    let running = 0
    const [a] = await buildNodes(t, {
      backend,
      options: { authConcurrency: 20, authorize: async ({ identity, channel }) => { if (identity.userId === 1) { running++; return await never() } return channel === 'group.x' } }
    })
    const [greedy, other] = [await connect(a, user(1)), await connect(a, user(2))]
    for (let i = 0; i < 40; i++) greedy.send('subscribe', { channel: `group.${i}` })
    await until('authorize is asked', () => running === 2)
    t.ok(await other.request('subscribe', { channel: 'group.x' }))
    t.equal(running, 2, 'a tenth of the places')
    t.ok(await rest(a, user(2), 'GET', '/stats'))
  })
})
