import { mock } from 'node:test'
import t from 'tap'
import type { WebSocket } from 'ws'
import type { Connection } from '../plugins/connections/connection.js'
import { ConnectionSettings } from '../plugins/connections/options.js'
import { Supervisor } from '../plugins/connections/supervisor.js'
import { readSettings } from '../lib/settings.js'
import { log, turn } from './suites.js'

t.beforeEach(() => { mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] }) })
t.afterEach(() => { mock.timers.reset() })

/** A node with so many sockets, whose peers answer a close at once. When each was closed, in milliseconds after the drain began. */
function nodeWith (count: number, options: Partial<ConnectionSettings>): { supervisor: Supervisor, closedAt: number[], frames: unknown[] } {
  const settings = readSettings(ConnectionSettings, options, { of: 'connections', besides: [] })
  const supervisor = new Supervisor(settings, { now: () => Date.now() }, log)
  const closedAt: number[] = []
  const frames: unknown[] = []
  const began = Date.now()
  for (let i = 0; i < count; i++) {
    const socket = {} as WebSocket
    const close = (code: number): void => {
      if (code === 1012) closedAt.push(Date.now() - began)
      queueMicrotask(() => { supervisor.forget(socket) })
    }
    supervisor.watch({ transport: { source: socket }, send: (frame: Buffer) => { frames.push(JSON.parse(frame.toString())) }, close, terminate: () => {}, phase: { name: 'opening', since: began } } as unknown as Connection)
  }
  return { supervisor, closedAt, frames }
}

async function drained ({ supervisor, closedAt }: ReturnType<typeof nodeWith>, deadline: number): Promise<number[]> {
  let isOver = false
  void supervisor.drain(performance.now() + deadline).then(() => { isOver = true })
  for (let waited = 0; !isOver && waited < 20_000; waited += 10) {
    await turn()
    mock.timers.tick(10)
  }
  return closedAt
}

t.test('A node that closes sends its clients away evenly, over five seconds where they are many', async (t) => {
  const closedAt = await drained(nodeWith(5000, {}), 9500)
  t.equal(closedAt.length, 5000)
  const last = closedAt.at(-1) ?? 0
  t.ok(last > 4000 && last <= 5500, `the last after ${last} ms`)
  const firstHalf = closedAt.filter((at) => at <= last / 2).length
  t.ok(firstHalf > 2000 && firstHalf < 3000, `${firstHalf} in the first half of that`)
})

t.test('Few clients are disconnected at the same time, and all within the deadline', async (t) => {
  t.strictSame(await drained(nodeWith(10, {}), 9500), Array.from({ length: 10 }, () => 0))
  const short = await drained(nodeWith(5000, { closeDeadline: 2000 }), 1500)
  t.equal(short.length, 5000)
  t.ok((short.at(-1) ?? 0) < 1500, `the last after ${short.at(-1)} ms of 1500`)
  const fast = await drained(nodeWith(5000, { drainSeconds: 0 }), 9500)
  t.strictSame([...new Set(fast)], [0], 'where the host wants that')
})

t.test('Clients that are disconnected get different values of retryAfter', async (t) => {
  const many = nodeWith(5000, {})
  await drained(many, 9500)
  t.match(many.frames[0], { event: 'error', data: { code: 'RT_UNAVAILABLE', message: 'This node restarts: connect again' } })
  const seconds = new Map<number, number>()
  for (const { data: { retryAfter } } of many.frames as Array<{ data: { retryAfter: number } }>) seconds.set(retryAfter, (seconds.get(retryAfter) ?? 0) + 1)
  t.strictSame([...seconds.keys()].toSorted((a, b) => a - b), [1, 2, 3])
  t.ok([...seconds.values()].every((count) => count > 1000), 'evenly')
  const few = nodeWith(5, {})
  await drained(few, 9500)
  t.match(few.frames, Array.from({ length: 5 }, () => ({ data: { retryAfter: 1 } })), 'few come back soon')
})
