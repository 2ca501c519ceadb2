import t from 'tap'
import { allowAll, buildHost, tokenOf, until, user } from '../helper.js'
import { clientOf, connected, doorTo } from './harness.js'

t.jobs = 6

t.test('a token that expires soon is renewed on the open socket', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  let asked = 0
  const { client, next, of, errors } = await connected(t, host, user(1), {
    // The first is in its last 30 seconds already.
    token: async () => tokenOf(user(1, { expiresAt: Date.now() + (asked++ === 0 ? 8000 : 3600_000) }))
  })
  t.match(await next('token:expiring'), { expiresAt: String })
  await until('a new one was asked for', () => asked === 2)
  await new Promise((resolve) => setTimeout(resolve, 8500))
  t.strictSame([of('disconnected'), errors, asked], [[], [], 2])
  t.match(await client.request('ping'), { timestamp: String })
})

t.test('each attempt uses a new token, and an expired one is not used again', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const door = await doorTo(t, host)
  const given: string[] = []
  let fresh = true
  const { next, of, errors, client } = await connected(t, door, user(1), {
    token: () => {
      // For a while the application has only the one that expired.
      if (fresh) given.push(tokenOf(user(1, { expiresAt: Date.now() + 3600_000 + given.length })))
      return given.at(-1) ?? ''
    }
  })
  fresh = false
  host.clock.advance(3600_000 + 1000)
  t.match(await next('disconnected'), { code: 4401, willReconnect: true })
  await next('reconnecting', 2)
  t.equal(door.connects.length, 1, 'the server was not asked with the old token')
  host.clock.advance(-3600_000 - 1000)
  fresh = true
  await next('connected', 2)
  t.equal(door.connects.length, 2)
  t.match(errors.map(({ code }) => code), ['RT_TOKEN_EXPIRED', 'RT_UNAUTHENTICATED'])
  t.equal(of('disconnected').length, 1)
  t.equal(client.state, 'connected')
})

t.test('an expired fixed token ends the client with one RT_TOKEN_EXPIRED', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const door = await doorTo(t, host)
  const { client, next, errors } = await connected(t, door, user(1, { expiresAt: Date.now() + 3600_000 }))
  host.clock.advance(3600_000 - 20_000)
  await next('token:expiring')
  host.clock.advance(20_000)
  t.match(await next('disconnected'), { code: 4401, willReconnect: false })
  t.equal(client.state, 'stopped')
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.match(errors.map(({ code }) => code), ['RT_TOKEN_EXPIRED'])
  t.equal(door.connects.length, 1)
})

t.test('a user whose host reads cookies needs no token', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: { authenticate: ({ token }) => token === undefined ? user(7) : null } })
  const { client, next } = clientOf(t, host, null)
  t.match(await next('connected'), { userId: 7, transport: 'websocket' })
  t.match(await client.subscribe('user:me'), { channel: 'private-user.7' })
})

t.test('a channel that is no longer allowed is one error, and the others continue', { buffered: true }, async (t) => {
  let allowed = true
  const host = await buildHost(t, { backend: 'embedded', options: { authorize: ({ channel }) => channel !== 'group.secret' || allowed } })
  const door = await doorTo(t, host)
  const { client, next, errors, of } = await connected(t, door, user(1))
  await client.subscribe('group.secret')
  await client.subscribe('group.open')
  allowed = false
  door.cut()
  await next('error')
  await until('the others', () => of('subscribed').length >= 7)
  t.match(errors, [{ code: 'RT_FORBIDDEN', channel: 'group.secret' }])
  t.equal(errors.length, 1)
  door.cut()
  await next('connected', 3)
  await next('subscribed', 10)
  t.equal(errors.length, 1, 'it is not asked for again')
  await t.rejects(client.subscribe('group.secret'), { code: 'RT_FORBIDDEN', channel: 'group.secret' })
  t.equal(errors.length, 1)
})
