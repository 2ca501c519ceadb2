import t from 'tap'
import { readSettings } from '../../example-host/settings.js'
import { startHost } from '../hosts.js'
import { connect, newClub, rest, tokenFor } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({}, (test, { at }) => {
  test('it is healthy, has a page and shows its API', async (t) => {
    t.equal((await fetch(`${at(0)}/health`)).status, 200)
    t.match((await fetch(at(1))).headers.get('content-type'), /text\/html/)
    t.equal((await fetch(`${at(0)}/docs`)).status, 200)
    const { paths } = await (await fetch(`${at(0)}/docs/json`)).json() as { paths: Record<string, Record<string, { responses: object }>> }
    const routes = ['connect', 'disconnect', 'heartbeat', 'presence/{userId}', 'presence', 'online-users', 'presence/update', 'typing',
      'typing/{conversationId}', 'subscribe', 'unsubscribe', 'stats', 'messages/direct', 'messages/group', 'broadcast', 'notifications', 'events',
      'presence/watch', 'presence/unwatch', 'channels', 'channels/{channel}/members']
    for (const route of routes) {
      const methods = paths[`/api/websocket/${route}`]
      t.ok(methods, route)
      for (const { responses } of Object.values(methods ?? {})) t.ok('401' in responses && '429' in responses && '500' in responses, route)
    }
  })
})

t.test('in production there is no demo login, and a secret is required', async (t) => {
  const host = await startHost({ env: { NODE_ENV: 'production' } })
  t.teardown(async () => { await host.stop() })
  const login = await fetch(`${host.url}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"userId":1,"clubId":1}' })
  t.equal(login.status, 404)
  await t.rejects(startHost({ env: { NODE_ENV: 'production', JWT_SECRET: '' } }), /JWT_SECRET/)
  await t.rejects(startHost({ env: { NODE_ENV: 'production', JWT_SECRET: 'x'.repeat(31) } }), /JWT_SECRET must have at least 32 characters/)
  for (const path of ['/docs', '/docs/json', '/docs/asyncapi.json', '/dashboard.html', '/dashboard.js']) {
    const status = async (authorization?: string): Promise<number> =>
      (await fetch(host.url + path, authorization === undefined ? {} : { headers: { authorization } })).status
    t.equal(await status(), 401, path)
    t.equal(await status(`Bearer ${tokenFor(1, 1)}`), 403, path)
    t.equal(await status(`Bearer ${tokenFor(1, 1, { admin: true })}`), 200, path)
    t.equal(await status(`Basic ${Buffer.from(`x:${tokenFor(1, 1, { admin: true })}`).toString('base64')}`), 200, path)
  }
  t.equal((await fetch(host.url)).status, 200)
})

t.test('without variables the limits are those of the suite, and every plugin is registered', async (t) => {
  t.match(readSettings({}), {
    ids: 'integer', presenceEveryone: 1000, backplaneSecrets: [], audit: 'all', connectRate: 0, messagesPerMinute: 3000, recipientsPerMinute: 10_000,
    limitPrivateAddresses: false, maxPerAddress: 1000, maxPendingPerAddress: 200, failedAuthPerMinute: 60, framesPerSecond: 50,
    plugins: ['connections', 'presence', 'typing', 'channels', 'conversations', 'stats']
  })
})

t.test('a variable that cannot work is named at start', async (t) => {
  for (const [name, value] of [['MESSAGES_PER_MINUTE', '-1'], ['AUDIT', 'none'], ['LIMIT_PRIVATE_ADDRESSES', 'maybe'], ['CONNECT_RATE', 'fast'], ['BACKPLANE_SECRET', 'short']] as const) {
    await t.rejects(startHost({ env: { [name]: value } }), new RegExp(name === 'BACKPLANE_SECRET' ? 'secret' : name))
  }
})

t.test('the limits of the environment hold', async (t) => {
  const host = await startHost({ env: { MESSAGES_PER_MINUTE: '1', RECIPIENTS_PER_MINUTE: '1', LIMIT_PRIVATE_ADDRESSES: 'true', MAX_PER_ADDRESS: '1', AUDIT: 'durable' } })
  t.teardown(async () => { await host.stop() })
  const token = tokenFor(1, newClub())
  const client = await connect(host.url, token)
  await t.rejects(client.request('notification:send', { recipientIds: [2, 3], title: 't', body: 'b' }), { code: 'RT_RATE_LIMITED' })
  for (let i = 0; i < 2; i++) await client.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' }).catch(() => {})
  await t.rejects(client.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' }), { code: 'RT_RATE_LIMITED' })
  await t.rejects(connect(host.url, token))
})

t.test('SUITE chooses the plugins', async (t) => {
  const host = await startHost({ env: { SUITE: 'connections,stats' } })
  t.teardown(async () => { await host.stop() })
  const token = tokenFor(1, newClub())
  t.match(await rest(host.url, token, 'GET', '/stats'), { status: 200 })
  t.match(await rest(host.url, token, 'GET', '/online-users'), { status: 404 })
  const client = await connect(host.url, token)
  await t.rejects(client.request('subscribe', { channel: 'group.x' }), { code: 'RT_INVALID_FRAME' })
})
