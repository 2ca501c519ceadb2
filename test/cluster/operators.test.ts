/* eslint-disable @typescript-eslint/no-explicit-any -- what comes over the wire has the shape that the test then asserts */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Client, rest, tokenOf, type Target, type Who } from './client.js'
import { clusterFor } from './cluster.js'
import { within } from './until.js'

/** A node that is silent for so long was taken for dead by the others, in milliseconds. */
const FROZEN_FOR = 25_000

for (const kind of ['integer', 'string'] as const) {
  /** A user or a club of this kind of ids. */
  const id = (number: number): any => kind === 'integer' ? number : number === 999_999_999 ? String(number) : `no|${number}`
  const who = (userId: number, more: Partial<Who> = {}): Who => ({ userId: id(userId), clubId: id(1), ...more })
  const operator = who(1, { clubId: id(999_999_999), admin: true })

  /** A request of an operator, or of whoever is given. */
  const operate = async (target: Target, path: string, body?: object, as = operator): Promise<{ status: number, body: any }> => {
    const response = await fetch(`${target.url}/operators/${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${tokenOf(as)}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    return { status: response.status, body: await response.json() }
  }

  t.test(`Operators of two example hosts with ${kind} ids`, async (t) => {
    const { nodes: [a, b] } = await clusterFor(t, [{ env: { IDS: kind } }, { env: { IDS: kind } }])
    const clubId = id(1)
    const online = `online?clubId=${encodeURIComponent(clubId)}`

    await t.test('see connected users, kick, close and ban, on any node; other users may not', async (t) => {
      const [ann, ben] = [await Client.connect(a, who(1)), await Client.connect(b, who(2), { connectionId: 'bens' })]
      await ben.request('subscribe', { channel: 'group.x' })
      const { status, body } = await operate(a, online)
      t.equal(status, 200)
      t.match(body.users.map(({ userId, connections }: any) => [userId, connections.length]), [[id(1), 1], [id(2), 1]])
      t.match(body.users[1].connections[0], { connectionId: 'bens', ipAddress: '127.0.0.1', device: String })
      t.ok(body.users[1].connections[0].channels.includes('group.x'))
      t.match(await operate(a, 'kick', { clubId, userId: id(2), channel: 'group.x' }), { status: 200, body: { connections: 1, complete: true } })
      t.match((await ben.next('unsubscribed')).data, { channel: 'group.x', reason: 'revoked' })
      t.match(await operate(a, 'close', { clubId, connectionId: 'bens' }), { status: 200, body: { connections: 1 } })
      t.equal((await ben.closed).code, 4000)
      t.match(await operate(b, 'ban', { clubId, userId: id(1), reason: 'spam' }), { status: 200, body: { connections: 1, complete: true } })
      t.equal((await ann.closed).code, 4403)
      await t.rejects(rest(b, who(1), '/stats'), { code: 'RT_BANNED' })
      t.match(await operate(b, 'unban', { clubId, userId: id(1) }), { status: 200 })
      t.ok(await rest(a, who(1), '/stats'))
      for (const other of [who(1), who(1, { admin: true }), who(1, { clubId: operator.clubId as number })]) {
        t.match(await operate(a, 'ban', { clubId, userId: id(2) }, other), { status: 403, body: { code: 'RT_FORBIDDEN' } })
      }
      t.equal((await fetch(`${a.url}/operators/${online}`)).status, 401)
    })

    await t.test('a frozen node is shown as silent, and applies the decisions made meanwhile when it continues', async (t) => {
      const [banned, kicked, watched] = [await Client.connect(b, who(3)), await Client.connect(b, who(4)), await Client.connect(b, who(5), { connectionId: 'watched' })]
      await kicked.request('subscribe', { channel: 'group.x' })
      b.pause()
      const frozen = sleep(FROZEN_FOR)
      const began = Date.now()
      const [seen, ...results] = await Promise.all([
        operate(a, online), operate(a, 'ban', { clubId, userId: id(3) }), operate(a, 'kick', { clubId, userId: id(4), channel: 'group.x' })
      ])
      t.ok(Date.now() - began < 2500, `${Date.now() - began} ms`)
      t.match(results, [{ body: { complete: false } }, { body: { complete: false } }])
      const connections = seen.body.users.flatMap((user: any) => user.connections)
      t.match(connections.find(({ connectionId }: any) => connectionId === 'watched'), { channels: null, nodeId: String, device: String }, 'its channels are not known')
      await frozen
      t.match(await operate(a, online), { body: { total: 0 } }, 'the others took it for dead')
      b.resume()
      t.equal((await within(10_000, 'closed', banned.closed)).code, 4403)
      t.match((await kicked.next('unsubscribed', 10_000)).data, { channel: 'group.x', reason: 'revoked' })
      await t.rejects(rest(b, who(3), '/stats'), { code: 'RT_BANNED' })
      t.ok(await watched.request('ping', {}), 'whom nothing was decided about stays')
    })
  })
}
