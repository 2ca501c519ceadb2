import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import { CounterAges } from '../../lib/backplane/counter-ages.js'
import { COUNTER_TTL_MS } from '../../lib/backplane/sequence-tracker.js'
import { channelKey } from '../../lib/keys.js'
import { durable, frame } from './node.js'
import { startNodes, type RedisNode } from './redis.js'

const keysOf = async ({ connections }: RedisNode): Promise<string[]> => {
  const found = await (connections.commands as Redis).keys(`${connections.prefix}*`)
  return found.map((key) => key.slice(connections.prefix.length)).filter((key) => key !== 'probe').sort()
}

/** What is left in Redis, and what is numbered there. */
export function keys (t: Test): void {
  t.test('channels with ephemeral events alone leave no keys, with subscribers or without', async (t) => {
    const [a, b] = await startNodes(t)
    for (let i = 0; i < 20; i++) await b.backplane.subscribe(channelKey(1, `heard.${i}`))
    await Promise.all(Array.from({ length: 20 }, (_, i) =>
      [a.backplane.publish(channelKey(1, `heard.${i}`), frame(`${i}`)), a.backplane.publish(channelKey(1, `unheard.${i}`), frame(`${i}`))]).flat())
    await a.backplane.call('node-b', 'op', 1)
    await b.recorder.until('all frames', () => b.recorder.frames.length === 20)
    t.strictSame(await keysOf(a), [])
  })

  t.test('a channel with durable events leaves one key, for two minutes after the last event', async (t) => {
    const [a, b] = await startNodes(t)
    const commands = a.connections.commands as Redis
    const counter = `${a.connections.prefix}sequence:{1/a}`
    await b.backplane.subscribe('1/a')
    await a.backplane.publish('1/a', durable('one'))
    const first = Number(await commands.get(counter))
    t.ok(first > 1e15 && Number.isSafeInteger(first), 'it begins at the time')
    const life = await commands.pttl(counter)
    t.ok(life >= COUNTER_TTL_MS + 10_000 && life <= COUNTER_TTL_MS + 20_000, `${life} ms`)
    // In one turn, and so in one message.
    await Promise.all([a.backplane.publish('1/a', frame('ephemeral')), a.backplane.publish('1/a', durable('two'))])
    await a.backplane.publish('1/a', frame('ephemeral, alone'))
    t.equal(Number(await commands.get(counter)), first + 1)
    t.strictSame(await keysOf(a), ['sequence:{1/a}'])
    await b.recorder.untilText('ephemeral, alone')
    t.strictSame(b.recorder.texts(), ['one', 'ephemeral', 'two', 'ephemeral, alone'])
    t.strictSame(b.recorder.missing, [])
  })

  t.test('each node renews a counter from time to time and after a failure', async (t) => {
    let now = 1e6
    const ages = new CounterAges(() => now)
    t.strictSame(['a', 'b', 'a'].map((counter) => ages.isDue(counter)), [true, true, false])
    now += 9999
    t.strictSame(['a', 'c'].map((counter) => ages.isDue(counter)), [false, true])
    now += 1
    t.strictSame(['a', 'c', 'c'].map((counter) => ages.isDue(counter)), [true, true, false])
    ages.forget()
    t.ok(ages.isDue('a'))

    const [a, b] = await startNodes(t)
    const commands = a.connections.commands as Redis
    const counter = `${a.connections.prefix}sequence:{1/a}`
    await a.backplane.publish('1/a', durable('one'))
    await commands.pexpire(counter, 5000)
    await a.backplane.publish('1/a', durable('two'))
    t.ok(await commands.pttl(counter) <= 5000, 'this node has just done it')
    await b.backplane.publish('1/a', durable('three'))
    t.ok(await commands.pttl(counter) >= COUNTER_TTL_MS, 'the other one has not')
  })

  t.test('an evicted counter is reported as a gap before the next message', async (t) => {
    const [a, b] = await startNodes(t)
    await b.backplane.subscribe('1/a')
    for (const text of ['one', 'two']) await a.backplane.publish('1/a', durable(text))
    await b.recorder.untilText('two')
    t.strictSame(b.recorder.missing, [])
    await (a.connections.commands as Redis).del(`${a.connections.prefix}sequence:{1/a}`)
    await a.backplane.publish('1/a', durable('three'))
    await b.recorder.untilText('three')
    t.strictSame(b.recorder.missing, ['1/a'])
    t.strictSame(b.recorder.emitted.slice(-2), ['missed', 'deliver'])
  })

  t.test('a dropped durable message, as of a later version, is soon reported as a gap even if nothing follows it', async (t) => {
    const [a, b] = await startNodes(t)
    const commands = a.connections.commands as Redis
    await b.backplane.subscribe('1/a')
    await b.backplane.subscribe('1/b')
    await a.backplane.publish('1/a', durable('one'))
    const { prefix } = a.connections
    const number = await commands.incr(`${prefix}sequence:{1/a}`)
    const began = Date.now()
    await commands.publish(`${prefix}channel:{1/a}`, `rt2+${number}\nwhat nobody knows yet`)
    await commands.publish(`${prefix}channel:{1/b}`, 'rubbish')
    await b.recorder.until('missed', () => b.recorder.missing.length > 0)
    t.ok(Date.now() - began < 6000, 'long before the next regular comparison')
    t.strictSame(b.recorder.missing, ['1/a'], 'and rubbish that was not numbered reads nothing')
    await a.backplane.publish('1/a', durable('two'))
    await b.recorder.untilText('two')
    t.strictSame(b.recorder.missing, ['1/a'])
  })
}
