/* eslint-disable @typescript-eslint/no-explicit-any -- what comes over the wire has the shape that the test then asserts */
import t from 'tap'
import { Client, rest, tokenOf, type Target } from './client.js'
import { clusterFor } from './cluster.js'
import { until, within } from './until.js'

const OPERATOR = { userId: 1, clubId: 999_999_999, admin: true }

/** A request of an operator, or of whoever is given. */
async function operate (target: Target, path: string, body?: object, who: typeof OPERATOR | { userId: number, clubId?: number, admin?: boolean } = OPERATOR): Promise<{ status: number, body: any }> {
  const response = await fetch(`${target.url}/operators/${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${tokenOf(who)}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  return { status: response.status, body: await response.json() }
}

t.test('Operators of two example hosts', async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [{}, {}])

  await t.test('see who is connected, kick, close and ban, on whichever node it is; nobody else may', async (t) => {
    const [ann, ben] = [await Client.connect(a, { userId: 1 }), await Client.connect(b, { userId: 2 }, { connectionId: 'bens' })]
    await ben.request('subscribe', { channel: 'group.x' })
    const { status, body } = await operate(a, 'online?clubId=1')
    t.equal(status, 200)
    t.match(body.users.map(({ userId, connections }: any) => [userId, connections.length]), [[1, 1], [2, 1]])
    t.match(body.users[1].connections[0], { connectionId: 'bens', ipAddress: '127.0.0.1', device: String })
    t.ok(body.users[1].connections[0].channels.includes('group.x'))
    t.match(await operate(a, 'kick', { clubId: 1, userId: 2, channel: 'group.x' }), { status: 200, body: { connections: 1, complete: true } })
    t.match((await ben.next('unsubscribed')).data, { channel: 'group.x', reason: 'revoked' })
    t.match(await operate(a, 'close', { clubId: 1, connectionId: 'bens' }), { status: 200, body: { connections: 1 } })
    t.equal((await ben.closed).code, 4000)
    t.match(await operate(b, 'ban', { clubId: 1, userId: 1, reason: 'spam' }), { status: 200, body: { connections: 1, complete: true } })
    t.equal((await ann.closed).code, 4403)
    await t.rejects(rest(b, { userId: 1 }, '/stats'), { code: 'RT_BANNED' })
    t.match(await operate(b, 'unban', { clubId: 1, userId: 1 }), { status: 200 })
    t.ok(await rest(a, { userId: 1 }, '/stats'))
    for (const who of [{ userId: 1 }, { userId: 1, admin: true }, { userId: 1, clubId: OPERATOR.clubId }]) {
      t.match(await operate(a, 'ban', { clubId: 1, userId: 2 }, who), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    }
    t.equal((await fetch(`${a.url}/operators/online?clubId=1`)).status, 401)
  })

  await t.test('a node that was frozen while a user was banned and kicked obeys when it goes on', async (t) => {
    const [banned, kicked] = [await Client.connect(b, { userId: 3 }), await Client.connect(b, { userId: 4 })]
    await kicked.request('subscribe', { channel: 'group.x' })
    b.pause()
    const began = Date.now()
    const results = await Promise.all([operate(a, 'ban', { clubId: 1, userId: 3 }), operate(a, 'kick', { clubId: 1, userId: 4, channel: 'group.x' })])
    t.ok(Date.now() - began < 2500, `${Date.now() - began} ms`)
    t.match(results, [{ body: { complete: false } }, { body: { complete: false } }])
    // Long enough for the other node to take it for dead.
    await until('it counts as dead', 30_000, async () => (await operate(a, 'online?clubId=1')).body.total === 0)
    b.resume()
    t.equal((await within(10_000, 'closed', banned.closed)).code, 4403)
    t.match((await kicked.next('unsubscribed', 10_000)).data, { channel: 'group.x', reason: 'revoked' })
    await t.rejects(rest(b, { userId: 3 }, '/stats'), { code: 'RT_BANNED' })
  })
})
