import type { Redis } from 'ioredis'
import t from 'tap'
import { until } from './cluster/until.js'
import { Model } from './roster/model.js'
import { findings } from './roster/truth.js'
import { times } from './roster/world.js'
import { startRedis } from './servers.js'
import { freshPrefix, openRedis, seeded, TestClock } from './suites.js'

/** More for a longer look: SEEDS=1-500 */
const [from = 1, to = 12] = (process.env.SEEDS ?? '1-12').split('-').map(Number)
const tenantIds = [1, 2]
const userIds = [1, 2, 3, 4, 5, 6]
const conversations = ['a', 'b']
const statuses = ['online', 'away', 'busy', 'offline'] as const
const faults = ['single', 'subset', 'flush', 'snapshot', 'away'] as const

t.test('Whatever data Redis has after a failure, the state is correct after two leases, and no wrong event was emitted', async (t) => {
  const server = await startRedis()
  t.teardown(async () => { await server.stop() })
  const connections = await Promise.all([1, 2].map(async () => await openRedis(t, freshPrefix(), server.url)))
  const admin = connections[0]?.commands as Redis
  const isBack = async (): Promise<void> => {
    await until('Redis is back', 10_000, () => connections.every(({ commands }) => commands.status === 'ready'))
  }

  for (let seed = from; seed <= to; seed++) {
    await t.test(`seed ${seed}`, async (t) => {
      const random = seeded(seed)
      const pick = <T>(items: readonly T[]): T => items[random(items.length)] as T
      await admin.flushall()
      const model = new Model(new TestClock(), `${freshPrefix()}:`)
      for (const redis of connections) await model.boot(redis)
      const { journal } = model

      const act = async (): Promise<void> => {
        const node = pick(model.nodes)
        const socket = model.sockets.length > 0 ? pick(model.sockets) : null
        const holder = model.nodes.find(({ roster }) => roster.nodeId === socket?.nodeId)
        const kind = socket === null || holder === undefined ? 0 : random(10)
        if (kind < 4) {
          const [tenantId, userId] = [pick(tenantIds), pick(userIds)]
          const id = `u${userId}-${random(3)}`
          journal.push(`open ${tenantId}/${id} on ${node.roster.nodeId}`)
          await model.open(node, tenantId, userId, id)
        } else if (socket !== null && holder !== undefined) {
          const by = random(4) === 0 ? node : holder
          if (kind < 7) {
            journal.push(`close ${socket.tenantId}/${socket.connectionId}`)
            await model.close(socket)
          } else if (kind < 8) {
            const status = pick(statuses)
            journal.push(`${socket.tenantId}/${socket.userId} says ${status} on ${by.roster.nodeId}`)
            await model.say(by, socket, status)
          } else {
            const conversation = pick(conversations)
            const key = `${socket.tenantId}/${socket.userId}:${conversation}`
            journal.push(`${key} types on ${by.roster.nodeId}`)
            if (model.typing.has(key) && !model.ending.includes(key) && random(2) === 0) await model.stop(by, key)
            else await model.type(by, socket, conversation)
          }
        }
        if (random(3) === 0) {
          const ms = 100 + random(3000)
          journal.push(`${ms} ms`)
          await model.pass(ms)
        }
      }
      const actions = async (count: number): Promise<void> => { for (let i = 0; i < count; i++) await act() }
      const evict = async (keep: (key: string) => boolean): Promise<void> => {
        const keys = (await admin.keys('*')).toSorted().filter((key) => !keep(key))
        journal.push(`evict ${keys.map((key) => key.slice(key.indexOf(':') + 1)).join(' ')}`)
        if (keys.length > 0) await admin.del(...keys)
      }

      await actions(25)
      for (let i = 0; i < 1 + random(2); i++) {
        await model.passGraces()
        const fault = pick(faults)
        journal.push(`--- ${fault}`)
        if (fault === 'single') {
          const all = (await admin.keys('*')).toSorted()
          const victim = pick(all)
          await evict((key) => key !== victim)
        } else if (fault === 'subset') {
          await evict(() => random(2) === 0)
        } else if (fault === 'flush') {
          await admin.flushall()
        } else {
          await admin.save()
          await actions(random(20))
          if (fault === 'snapshot') {
            await server.kill()
            await server.restart()
          } else {
            await server.kill()
            await actions(random(8))
            await model.pass(random(2) * 10_000)
            await server.restart()
          }
          await isBack()
        }
        if (random(2) === 0) await actions(random(6))
      }
      await model.pass(2 * times.nodeTimeout)
      const found = await findings(model, tenantIds, userIds, conversations)
      t.strictSame(found, [], 'right after two leases')
      if (found.length > 0 && process.env.JOURNAL) console.error([`seed ${seed}`, ...journal].join('\n'))

      for (const socket of model.sockets) await model.close(socket)
      await model.pass(times.offlineDelay + times.nodeTimeout + 1000)
      t.strictSame(await findings(model, tenantIds, userIds, conversations), [], 'everyone left')
      t.strictSame(await model.keysOf(admin), [], 'no key is left behind')
      for (const { roster } of model.nodes) await roster.close()
    })
  }
})
