import type { Test } from 'tap'
import { errorCodes, RealtimeError } from '../../lib/errors.js'
import { channelKey, type ChannelKey } from '../../lib/keys.js'
import { seeded, turn } from '../suites.js'
import { frame, payloadOf, textOf, type Node } from './node.js'

/** What `Backplane` promises in lib/backplane/contract.ts, on the node that does it. */
export function onOneNode (t: Test, start: (t: Test) => Promise<Node>): void {
  t.test('publish reaches local subscribers, and no other channels', async (t) => {
    const { backplane, recorder } = await start(t)
    await backplane.subscribe('1/a')
    await Promise.all([backplane.publish('1/b', frame('unheard')), backplane.publish('1/a', frame('heard'))])
    await recorder.untilText('heard')
    t.strictSame(recorder.frames.map((one) => [one.key, textOf(one)]), [['1/a', 'heard']])
  })

  t.test('events of a channel arrive in the order of the calls, within one turn and over many', async (t) => {
    const { backplane, recorder } = await start(t)
    const random = seeded(1)
    const keys: ChannelKey[] = ['1/a', '1/b', '2/a']
    await Promise.all(keys.map(async (key) => { await backplane.subscribe(key) }))
    const sent: Record<string, string[]> = { '1/a': [], '1/b': [], '2/a': [] }
    const published: Array<Promise<void>> = []
    for (let i = 0; i < 2000; i++) {
      const key = keys[random(keys.length)] ?? '1/a'
      sent[key]?.push(String(i))
      published.push((async () => { await backplane.publish(key, frame(String(i))) })())
      if (random(20) === 0) await turn()
    }
    await Promise.all(published)
    await recorder.until('2000 frames', () => recorder.frames.length >= 2000)
    for (const key of keys) t.strictSame(recorder.texts(key), sent[key], key)
  })

  t.test('payloads and their routing data arrive unchanged, byte for byte', async (t) => {
    const { backplane, recorder } = await start(t)
    await backplane.subscribe('1/a')
    const frames = [
      frame('{"text":"žluťoučký 日本語 👩‍👩‍👧 \\u0000\\n"}\n\n', { messageId: 1 }),
      frame('', { messageId: Number.MAX_SAFE_INTEGER, excludeConnectionId: 'c'.repeat(255), isRetry: true }),
      { ...frame('', { excludeConnectionId: 'tab-1' }), payload: payloadOf(Buffer.from(Array.from({ length: 256 }, (_, i) => i))) },
      { ...frame('', { messageId: 2 ** 40 }), payload: payloadOf(Buffer.alloc(70_000, 'ž')) }
    ]
    await Promise.all(frames.map(async (one) => { await backplane.publish('1/a', one) }))
    await recorder.until('all frames', () => recorder.frames.length >= frames.length)
    t.strictSame(recorder.frames.map(({ key: _, ...rest }) => ({ ...rest, payload: Buffer.from(rest.payload) })), frames)
  })

  t.test('the last of racing subscribe and unsubscribe calls wins', async (t) => {
    const { backplane, recorder } = await start(t)
    const random = seeded(2)
    await backplane.subscribe('1/end')
    const wanted: string[] = []
    const pending: Array<Promise<void>> = []
    for (let i = 0; i < 200; i++) {
      const key = channelKey(1, `race.${i}`)
      let subscribed = false
      for (let step = random(6) + 1; step > 0; step--) {
        subscribed = random(2) === 0
        if (subscribed) pending.push((async () => { await backplane.subscribe(key) })())
        else backplane.unsubscribe(key)
        if (random(3) === 0) await turn()
      }
      if (subscribed) wanted.push(key)
    }
    await Promise.all(pending)
    for (let i = 0; i < 200; i++) await backplane.publish(channelKey(1, `race.${i}`), frame('x'))
    await backplane.publish('1/end', frame('end'))
    await recorder.untilText('end')
    t.ok(wanted.length > 50 && wanted.length < 150, `${wanted.length} of 200 end as subscribed`)
    t.strictSame(recorder.frames.filter(({ key }) => key !== '1/end').map(({ key }) => key), wanted)
  })

  t.test('publishLocally delivers after everything published before', async (t) => {
    const { backplane, recorder } = await start(t)
    await backplane.subscribe('1/a')
    const published = backplane.publish('1/a', frame('to all', { messageId: 1 }))
    backplane.publishLocally('1/a', frame('here'))
    t.strictSame(recorder.texts(), ['to all', 'here'])
    await published
  })

  t.test('after subscribing twice events arrive once, and one unsubscribe is enough', async (t) => {
    const { backplane, recorder } = await start(t)
    const resolved: number[] = []
    await Promise.all((['1/a', '1/a', '1/a', '1/end'] as const).map(async (key, i) => {
      await backplane.subscribe(key)
      resolved.push(i)
    }))
    t.equal(resolved[0], 0, 'none resolves before the first one does')
    await backplane.subscribe('1/a')
    await backplane.publish('1/a', frame('once'))
    await recorder.untilText('once')
    backplane.unsubscribe('1/a')
    await backplane.publish('1/a', frame('left'))
    await backplane.publish('1/end', frame('end'))
    await recorder.untilText('end')
    t.strictSame(recorder.texts(), ['once', 'end'])
  })

  t.test('a node can call itself, and errors keep their code', async (t) => {
    const { backplane, recorder } = await start(t)
    t.strictSame(await backplane.call(backplane.nodeId, 'close', { id: 'ž' }), { op: 'close', data: { id: 'ž' } })
    recorder.answer = () => { throw new RealtimeError('RT_LIMIT_EXCEEDED', 'enough') }
    await t.rejects(backplane.call(backplane.nodeId, 'subscribe', {}), { code: 'RT_LIMIT_EXCEEDED', message: 'enough' })
  })

  t.test('a call to a dead node rejects with not found', async (t) => {
    const { backplane } = await start(t)
    await t.rejects(backplane.call('no-such-node', 'close', {}), { code: 'RT_NOT_FOUND' })
  })
}

/** What it promises between two nodes. */
export function betweenNodes (t: Test, start: (t: Test) => Promise<[Node, Node]>): void {
  t.test('everything that another node publishes after subscribe resolved arrives', async (t) => {
    const [a, b] = await start(t)
    const keys = Array.from({ length: 200 }, (_, i) => channelKey(1, `now.${i}`))
    await Promise.all(keys.map(async (key) => {
      await b.backplane.subscribe(key)
      await a.backplane.publish(key, frame(key))
    }))
    await b.recorder.until('a frame of each channel', () => b.recorder.frames.length >= keys.length)
    t.strictSame(new Set(b.recorder.texts()), new Set(keys))
    t.equal(b.recorder.frames.length, keys.length, 'each once')
  })

  t.test('events of two nodes that publish at once arrive in the same order everywhere', async (t) => {
    const [a, b] = await start(t)
    await Promise.all([a, b].map(async ({ backplane }) => { await backplane.subscribe('1/a') }))
    for (let i = 0; i < 300; i++) {
      for (const [name, { backplane }] of [['a', a], ['b', b]] as const) void backplane.publish('1/a', frame(`${name}${i}`))
      if (i % 3 === 0) await turn()
    }
    for (const { recorder } of [a, b]) await recorder.until('600 frames', () => recorder.frames.length >= 600)
    t.strictSame(a.recorder.texts(), b.recorder.texts())
    t.strictSame(a.recorder.texts().filter((text) => text.startsWith('a')), Array.from({ length: 300 }, (_, i) => `a${i}`))
  })

  t.test('publish resolves after the other node has the event', async (t) => {
    const [a, b] = await start(t)
    await b.backplane.subscribe('1/a')
    for (let i = 0; i < 20; i++) {
      await a.backplane.publish('1/a', frame(String(i)))
      // On the wire before `publish` resolves; a question sent after it cannot overtake it.
      await a.backplane.call(b.backplane.nodeId, 'ping', null)
      t.equal(b.recorder.frames.length, i + 1)
    }
  })

  t.test('events on many channels of several tenants in one turn reach the right subscribers', async (t) => {
    const [a, b] = await start(t)
    const keys = [1, 2, 3].flatMap((tenant) => Array.from({ length: 400 }, (_, i) => channelKey(tenant, `group.${i}`)))
    const received = keys.filter((key) => !key.startsWith('2/'))
    await Promise.all(received.map(async (key) => { await b.backplane.subscribe(key) }))
    await Promise.all(keys.flatMap((key) => ['1', '2'].map(async (text) => { await a.backplane.publish(key, frame(text)) })))
    await b.recorder.until('all frames', () => b.recorder.frames.length >= received.length * 2)
    for (const key of received) {
      const texts = b.recorder.texts(key)
      if (texts.join() !== '1,2') t.strictSame(texts, ['1', '2'], key)
    }
    t.equal(b.recorder.frames.length, received.length * 2)
    t.equal(a.recorder.frames.length, 0, 'the sender subscribed to none of them')
  })

  t.test('many simultaneous calls to another node get their own responses', async (t) => {
    const [a, b] = await start(t)
    b.recorder.answer = async (op, data) => {
      if ((data as { n: number }).n % 2 === 0) await turn()
      return op === 'nothing' ? undefined : { op, data, text: 'ž' }
    }
    const answers = await Promise.all(Array.from({ length: 50 }, async (_, n) => await a.backplane.call(b.backplane.nodeId, 'op', { n })))
    t.strictSame(answers, Array.from({ length: 50 }, (_, n) => ({ op: 'op', data: { n }, text: 'ž' })))
    t.equal(await a.backplane.call(b.backplane.nodeId, 'nothing', { n: 1 }), undefined)
  })

  t.test('an error of the called node arrives with its code and without internal details', async (t) => {
    const [a, b] = await start(t)
    for (const code of errorCodes) {
      b.recorder.answer = () => { throw new RealtimeError(code, `because of ${code}`) }
      await t.rejects(a.backplane.call(b.backplane.nodeId, 'op', {}), { name: 'RealtimeError', code, message: `because of ${code}` })
    }
    b.recorder.answer = () => { throw new Error('password is wrong') }
    const emitted = await a.backplane.call(b.backplane.nodeId, 'op', {}).catch((err: unknown) => err)
    t.match(emitted, { code: 'RT_INTERNAL' })
    t.notMatch((emitted as Error).message, /password/)
  })

  t.test('close rejects calls in progress', async (t) => {
    const [a] = await start(t)
    const unanswered = t.rejects(a.backplane.call('no-such-node', 'op', {}), { code: 'RT_NOT_FOUND' })
    await a.backplane.close()
    await unanswered
  })
}
