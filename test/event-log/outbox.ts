import type { Test } from 'tap'
import { privateChannel } from '../../lib/channel-names.js'
import { toSqlTime } from '../../lib/database/time.js'
import { confirm, direct, group, waitingFor, type OpenNode } from './world.js'

/** What becomes of a stored event until everybody has it: handed on, confirmed, tried again, or failed. */
export function outbox (t: Test, open: OpenNode): void {
  t.test('published events are delivered, except those that their recipient must confirm', async (t) => {
    const { log, settle, rows, clock } = await open(t)
    await log.append(group('all'))
    const { messageId } = await log.append(direct('one'))
    await settle()
    t.match(await rows(), [
      { status: 'delivered', handed_at: toSqlTime(clock.now()), due_at: null },
      { status: 'pending', handed_at: toSqlTime(clock.now()), due_at: toSqlTime(clock.now() + 5000) }
    ])
    t.strictSame([await log.counts(1), await log.counts(2)], [{ pending: 1, failed: 0 }, { pending: 0, failed: 0 }])
    t.strictSame(await confirm(log, 1, 8, [messageId]), [{ id: messageId, senderId: 7, fresh: true }])
    t.match((await rows())[1], { status: 'delivered', due_at: null })
    t.strictSame(await log.counts(1), { pending: 0, failed: 0 })
  })

  t.test('an event that is confirmed before it is marked as published is not updated again', async (t) => {
    const { log, settle, rows, clock } = await open(t)
    const { messageId: quick } = await log.append(direct('quick'))
    await log.append(direct('slow'))
    await confirm(log, 1, 8, [quick])
    const then = toSqlTime(clock.now())
    clock.advance(10)
    await settle()
    const now = toSqlTime(clock.now())
    t.match(await rows(), [
      { status: 'delivered', due_at: null, handed_at: then, updated_at: then }, { status: 'pending', handed_at: now, updated_at: now }
    ])
  })

  t.test('an event that one connection confirmed during an outage still reaches the user’s other connections', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b' })
    const there = await b.listen('private-user.8')
    a.backplane.healthy = false
    const { messageId } = await a.log.append(direct('one'))
    await a.settle()
    t.match(await confirm(a.log, 1, 8, [messageId]), [{ fresh: true }])
    t.match(await a.rows(), [{ status: 'delivered', handed_at: null }])
    a.backplane.healthy = true
    await a.log.outbox.catchUp()
    b.hub.flush()
    t.strictSame(there.ids(), [messageId])
    t.match(await a.rows(), [{ status: 'delivered', due_at: null, handed_at: toSqlTime(a.clock.now()) }])
    t.notOk(a.log.outbox.isBehind)
  })

  t.test('an event that is confirmed through another node is marked by the node that published it', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b' })
    const { messageId } = await a.log.append(direct('one'))
    t.match(await confirm(b.log, 1, 8, [messageId]), [{ fresh: true }])
    t.match(await a.rows(), [{ status: 'delivered', handed_at: null }])
    await a.settle()
    t.match(await a.rows(), [{ status: 'delivered', due_at: null, handed_at: toSqlTime(a.clock.now()) }])
  })

  t.test('thousands of due events for absent recipients do not hold up those of another tenant', async (t) => {
    const { log, settle, rows, clock, db } = await open(t)
    await Promise.all(log.appendAll(Array.from({ length: 2500 }, (_, i) => direct('x', { channel: privateChannel(100 + i) })), { patient: true }))
    await settle()
    clock.advance(5500)
    const { messageId } = await log.append(group('from a node that died before it published it', { tenantId: 2 }))
    await settle()
    await db.db.updateTable('websocket_events').set({ status: 'pending', handed_at: null, due_at: toSqlTime(clock.now()) }).where('id', '=', messageId).execute()
    await log.sweeper.sweep()
    await settle()
    t.match((await rows()).find(({ id }) => Number(id) === messageId), { status: 'delivered', due_at: null })
    for (let i = 0; i < 10; i++) await log.sweeper.sweep()
    t.ok((await rows()).every(({ due_at: dueAt }) => dueAt === null), 'and the others were looked at, too')
  })

  t.test('only its recipient confirms an event, and the first time only is fresh', async (t) => {
    const { log, settle, rows } = await open(t)
    const { messageId: one } = await log.append(direct('one'))
    const { messageId: two } = await log.append(direct('two', { userId: 9 }))
    const { messageId: public_ } = await log.append(group('all'))
    await settle()
    for (const [tenantId, userId] of [[1, 7], [1, 9], [2, 8]] as const) t.strictSame(await confirm(log, tenantId, userId, [one, two]), [])
    t.strictSame(await confirm(log, 1, 8, [public_, 404_404]), [])
    t.equal((await rows())[0]?.status, 'pending')
    t.strictSame(await confirm(log, 1, 8, [one]), [{ id: one, senderId: 7, fresh: true }])
    t.strictSame(await confirm(log, 1, 8, [one, two]), [{ id: one, senderId: 7, fresh: false }, { id: two, senderId: 9, fresh: true }])
  })

  t.test('simultaneous confirmations of many users are returned to each for their own events', async (t) => {
    const { log, settle, rows } = await open(t)
    const to = async (userId: number, tenantId = 1) =>
      (await log.append(direct('x', { tenantId, channel: privateChannel(userId) }))).messageId
    const [eight, nine, elsewhere, open_] = [await to(8), await to(9), await to(8, 2), await to(9)]
    await settle()
    const found = await log.confirm([
      { tenantId: 1, userId: 9, id: nine }, { tenantId: 1, userId: 8, id: eight }, { tenantId: 1, userId: 8, id: nine },
      { tenantId: 1, userId: 8, id: elsewhere }, { tenantId: 2, userId: 9, id: open_ }, { tenantId: 1, userId: 8, id: eight }
    ])
    t.strictSame(found.sort((a, b) => a.id - b.id), [
      { tenantId: 1, userId: 8, id: eight, senderId: 7, fresh: true }, { tenantId: 1, userId: 9, id: nine, senderId: 7, fresh: true }
    ])
    t.strictSame((await rows()).map(({ status }) => status), ['delivered', 'delivered', 'pending', 'pending'])
    t.strictSame(await log.confirm([{ tenantId: 2, userId: 8, id: elsewhere }]), [{ tenantId: 2, userId: 8, id: elsewhere, senderId: 7, fresh: true }])
  })

  t.test('two tabs that confirm at the same moment give one fresh confirmation', async (t) => {
    const { log, settle } = await open(t)
    const { messageId } = await log.append(direct('one'))
    await settle()
    const confirmed = await Promise.all([1, 2, 3, 4].map(async () => await confirm(log, 1, 8, [messageId])))
    t.equal(confirmed.flat().filter(({ fresh }) => fresh).length, 1)
  })

  t.test('an unconfirmed event is sent again to an online user after 5, 15, 60, 60 and 60 s, then it has failed', async (t) => {
    const { log, settle, rows, clock, online, listen, failed } = await open(t)
    online.add('1/8')
    const [recipient, sender] = [await listen('private-user.8'), await listen('private-user.7')]
    const { messageId } = await log.append(direct('one'))
    await settle()
    const sweep = async (): Promise<void> => {
      await log.sweeper.sweep()
      await settle()
    }
    for (const [i, seconds] of [5, 15, 60, 60, 60].entries()) {
      clock.advance(seconds * 1000 - 1)
      await sweep()
      t.equal(recipient.frames.length, i + 1, `not before ${seconds} s`)
      clock.advance(1)
      await sweep()
      t.equal(recipient.frames.length, i + 2, `after ${seconds} s`)
      await sweep()
      t.match(await rows(), [{ status: 'pending', retry_count: i + 1 }])
    }
    t.strictSame(failed, [])
    clock.advance(60_000)
    await sweep()
    t.match(await rows(), [{ status: 'failed', retry_count: 5, error_message: 'not confirmed after 5 retries', due_at: null }])
    t.match(failed, [{ id: messageId, tenantId: 1, userId: 7, channel: 'private-user.8' }])
    clock.advance(600_000)
    await sweep()
    t.strictSame(recipient.ids(), Array(6).fill(messageId))
    t.strictSame(sender.ids(), [messageId], 'the sender’s other connections hear it once')
    t.strictSame([failed.length, await log.counts(1)], [1, { pending: 0, failed: 1 }])
    t.match(await confirm(log, 1, 8, [messageId]), [{ fresh: true }], 'a confirmation too late still counts')
    t.match(await rows(), [{ status: 'delivered', error_message: null }])
  })

  t.test('after a confirmation an event is not sent again', async (t) => {
    const { log, settle, clock, online, listen } = await open(t)
    online.add('1/8')
    const recipient = await listen('private-user.8')
    const { messageId } = await log.append(direct('one'))
    await settle()
    await confirm(log, 1, 8, [messageId])
    clock.advance(5000)
    await log.sweeper.sweep()
    await settle()
    t.equal(recipient.frames.length, 1)
  })

  t.test('an event for an offline user waits and is sent when the user connects', async (t) => {
    const { log, settle, rows, clock, online, listen } = await open(t)
    const { messageId } = await log.append(direct('one'))
    const { messageId: second } = await log.append(direct('two'))
    await log.append(direct('other', { channel: 'private-user.9' }))
    await settle()
    clock.advance(5000)
    await log.sweeper.sweep()
    for (const row of await rows()) t.match(row, { status: 'pending', retry_count: 0, due_at: null })
    clock.advance(3600_000)
    await log.sweeper.sweep()
    t.strictSame((await rows()).map(({ retry_count: count }) => count), [0, 0, 0])

    online.add('1/8')
    const recipient = await listen('private-user.8')
    const waiting = await waitingFor(log, 1, 8)
    t.strictSame(waiting, [messageId, second])
    t.strictSame([await waitingFor(log, 1, 7), await waitingFor(log, 2, 8)], [[], []])
    await log.outbox.markSent(waiting)
    await confirm(log, 1, 8, [second])
    t.strictSame(await waitingFor(log, 1, 8), [messageId])
    clock.advance(5000)
    await log.sweeper.sweep()
    await settle()
    t.strictSame(recipient.ids(), [messageId], 'from now on it is tried again')
  })

  t.test('users who connect at the same time share reads, and each gets their own events, even more than one read returns', async (t) => {
    const { log } = await open(t)
    const channelOf = (userId: number): string => `private-user.${userId}`
    const several = [[1, 8], [1, 9], [2, 8], [3, 7]] as const
    const sent = await Promise.all(several.map(async ([tenantId, userId]) =>
      (await log.append(direct('theirs', { tenantId, channel: channelOf(userId) }))).messageId))
    const coming = [...several, ...Array.from({ length: 600 }, (_, i) => [4, 1 + i] as const)]
    const read = async (): Promise<number[][]> =>
      await Promise.all(coming.map(async ([tenantId, userId]) => await waitingFor(log, tenantId, userId)))
    t.strictSame((await read()).slice(0, 5), [...sent.map((id) => [id]), []])
    await Promise.all(Array.from({ length: 501 }, async () => await log.append(direct('many', { channel: channelOf(8) }))))
    const [many = [], ...others] = await read()
    t.equal(many.length, 502)
    t.strictSame(others.slice(0, 3), sent.slice(1).map((id) => [id]))
  })

  t.test('an event of a node that died before publishing it is published by another node', async (t) => {
    const a = await open(t)
    // To the others it is as if it had died after the commit.
    a.backplane.healthy = false
    for (const event of [group('all'), direct('one'), group('more')]) await a.log.append(event)
    await a.settle()
    const b = await open.beside(t, a, { origin: 'node-b' })
    b.online.add('1/8')
    const [everyone, recipient] = [await b.listen('group.1'), await b.listen('private-user.8')]
    await b.log.sweeper.sweep()
    await b.settle()
    t.strictSame(everyone.frames, [], 'its own node may still do it')
    b.clock.advance(5000)
    await b.log.sweeper.sweep()
    await b.settle()
    t.strictSame([everyone.messages(), recipient.messages()], [['all', 'more'], ['one']])
    t.match(await b.rows(), [{ status: 'delivered', due_at: null }, { status: 'pending', retry_count: 0 }, { status: 'delivered', due_at: null }])
    b.clock.advance(5000)
    await b.log.sweeper.sweep()
    await b.settle()
    t.strictSame([everyone.messages(), recipient.messages()], [['all', 'more'], ['one', 'one']], 'and confirmed or tried again from then on')
  })

  t.test('while other nodes cannot be reached events wait in the table, and arrive in order later', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b' })
    const [here, there] = [await a.listen('group.1'), await b.listen('group.1')]
    a.backplane.healthy = false
    const ids: number[] = []
    for (const message of ['1', '2', '3']) ids.push((await a.log.append(group(message))).messageId)
    await a.settle()
    t.strictSame([here.messages(), there.messages()], [['1', '2', '3'], []])
    t.strictSame((await a.rows()).map(({ status, handed_at: at }) => [status, at]), ids.map(() => ['pending', null]))
    a.backplane.healthy = true
    ids.push((await a.log.append(group('4'))).messageId)
    await a.settle()
    t.strictSame(there.messages(), [], 'nothing overtakes what waits')
    await Promise.all([a.log.outbox.catchUp(), a.log.append(group('5')).then(({ messageId }) => ids.push(messageId))])
    await a.settle()
    b.hub.flush()
    t.strictSame([here.ids(), there.ids()], [ids, ids])
    t.strictSame((await a.rows()).map(({ status }) => status), ids.map(() => 'delivered'))
    t.notOk(a.log.outbox.isBehind)
  })

  t.test('an event of a host’s own transaction is published after the commit, and never after a rollback', async (t) => {
    const { log, settle, rows, listen, db } = await open(t)
    const reader = await listen('group.1')
    await t.rejects(db.db.transaction().execute(async (transaction) => {
      await log.appendInTransaction(transaction, group('rolled back'))
      throw new Error('no')
    }), { message: 'no' })
    const receipt = await db.db.transaction().execute(async (transaction) => await log.appendInTransaction(transaction, group('committed')))
    await settle()
    await log.sweeper.sweep()
    await settle()
    t.strictSame(reader.frames, [{ event: 'message:group', data: { messageId: receipt.messageId, userId: 7, message: 'committed', timestamp: receipt.timestamp } }])
    t.match(await rows(), [{ status: 'delivered' }])
  })
}
