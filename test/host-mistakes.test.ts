import t, { type Test } from 'tap'
import type { Identity } from '../plugins/index.js'
import { connect, open, rest, user } from './helper.js'
import { logBook, otherHost } from './other-hosts.js'

const wrong: Array<[what: string, identity: unknown, field: string]> = [
  ['an ISO text', { ...user(1), expiresAt: new Date(Date.now() + 60_000).toISOString() }, 'expiresAt'],
  ['NaN', { ...user(1), expiresAt: NaN }, 'expiresAt'],
  ['Infinity', { ...user(1), expiresAt: Infinity }, 'expiresAt'],
  ['an invalid Date', { ...user(1), expiresAt: new Date('never') }, 'expiresAt'],
  ['a number past all times', { ...user(1), expiresAt: 1e300 }, 'expiresAt'],
  ['a function', { ...user(1), expiresAt: () => Date.now() }, 'expiresAt'],
  ['a user id that is a text', { tenantId: 1, userId: 'ann' }, 'userId'],
  ['a user id of 0', { tenantId: 1, userId: 0 }, 'userId'],
  ['no tenant', { userId: 1 }, 'tenantId'],
  ['no object', 'ann', 'identity'],
  ['true', true, 'identity']
]

for (const [what, identity, field] of wrong) {
  t.test(`an identity with ${what} is the host’s mistake: nobody is let in, and one line of the log names ${field}`, async (t) => {
    const { logger, lines } = logBook()
    const host = await otherHost(t, {
      fastify: { logger: logger ?? false },
      core: { authenticate: ({ token }) => token === undefined ? null : identity as Identity }
    })
    const answer = await rest(host, user(1), 'GET', '/stats')
    t.match(answer, { status: 500, body: { statusCode: 500, code: 'RT_INTERNAL', message: 'Internal error' }, headers: { 'retry-after': '60' } })
    const atOnce = await open(host, { headers: { authorization: 'Bearer x' } })
    t.match(await atOnce.next('error'), { code: 'RT_INTERNAL', retryAfter: 60 })
    t.equal(await atOnce.closed, 1013)
    const byFrame = await open(host)
    await t.rejects(byFrame.request('auth', { token: 'x' }), { code: 'RT_INTERNAL', retryAfter: 60 })
    t.equal(await byFrame.closed, 1013)
    const errors = lines.filter(({ level }) => Number(level) >= 50)
    t.match(errors, [{ field, msg: new RegExp(`^authenticate returned an identity that cannot be used: ${field} is `) }])
    t.equal(errors.length, 1)
    t.notMatch(JSON.stringify(errors), /"ann"/, 'without the value')
  })
}

const expiring = async (t: Test, expiresAt: unknown, logger: ReturnType<typeof logBook>['logger'] = false) => await otherHost(t, {
  fastify: { logger: logger ?? false },
  core: { authenticate: ({ token }) => token === undefined ? null : { ...user(1), expiresAt } as Identity }
})

t.test('credentials end at a Date as they do at a number', async (t) => {
  const at = Date.now() + 600_000
  for (const expiresAt of [new Date(at), at]) {
    const client = await open(await expiring(t, expiresAt), { headers: { authorization: 'Bearer x' } })
    t.equal((await client.next('authenticated')).expiresAt, new Date(at).toISOString())
  }
  for (const expiresAt of [new Date(Date.now() - 1), Date.now() - 1, new Date(0), 0]) {
    t.match(await rest(await expiring(t, expiresAt), user(1), 'GET', '/stats'), { status: 401, body: { code: 'RT_TOKEN_EXPIRED' } })
  }
  const soon = await open(await expiring(t, new Date(Date.now() + 2500)), { headers: { authorization: 'Bearer x' } })
  await soon.next('token:expiring')
  t.match(await soon.next('error'), { code: 'RT_TOKEN_EXPIRED' })
  t.equal(await soon.closed, 4401)
  for (const expiresAt of [null, undefined]) t.equal((await rest(await expiring(t, expiresAt), user(1), 'GET', '/stats')).status, 200)
})

t.test('an expiry in seconds has expired, and the log names the mistake, once', async (t) => {
  const { logger, lines } = logBook()
  const host = await expiring(t, Math.floor(Date.now() / 1000) + 3600, logger)
  for (let i = 0; i < 2; i++) t.match(await rest(host, user(1), 'GET', '/stats'), { status: 401, body: { code: 'RT_TOKEN_EXPIRED' } })
  t.match(lines.filter(({ level }) => level === 40), [{ msg: /expiresAt looks like seconds.*milliseconds/ }])
})

t.test('a live socket stays when its renewal meets a mistake of the host’s', async (t) => {
  let expiresAt: unknown = null
  const host = await otherHost(t, { core: { authenticate: ({ token }) => token === undefined ? null : { ...user(1), expiresAt } as Identity } })
  const client = await connect(host, user(1))
  expiresAt = 'soon'
  await t.rejects(client.request('auth', { token: 'x' }), { code: 'RT_INTERNAL' })
  t.ok(await client.request('ping'))
})

