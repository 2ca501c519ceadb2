import t from 'tap'
import { createTyping } from '../../client/src/typing.js'
import { allowAll, buildHost, connect, user } from '../helper.js'
import { connected, doorTo } from './harness.js'
import { VirtualClock } from './virtual-clock.js'

t.jobs = 6

const host = await buildHost(t, { backend: 'embedded', options: allowAll })

t.test('keystrokes send at most one start every 3 s, and one stop after the last', { buffered: true }, async (t) => {
  const sent: Array<{ isTyping: boolean, at: number }> = []
  const time = new VirtualClock()
  const clock = time.forClient(() => 0.5)
  const typing = createTyping(clock, 5000, ({ isTyping }) => { sent.push({ isTyping, at: clock.now() }) })
  // 12 keystrokes a second for 10 s.
  for (let i = 0; i < 120; i++) {
    typing.record('c', true)
    await time.advance(83)
  }
  const starts = sent.filter(({ isTyping }) => isTyping)
  t.ok(starts.length >= 3 && starts.length <= 4, `${starts.length} starts`)
  for (const [i, { at }] of starts.entries()) if (i > 0) t.ok(at - (starts[i - 1]?.at ?? 0) >= 3000)
  t.equal(sent.length, starts.length, 'no stop while typing continues')
  await time.advance(5500)
  t.strictSame(sent.slice(starts.length).map(({ isTyping }) => isTyping), [false], 'and then one')
})

t.test('others see the start, and the stop when the message is sent, the user is idle, or has left', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const { client } = await connected(t, door, user(1), { typingIdle: 700 })
  const two = await connect(host, user(2))
  const audience = { recipientId: 2 }
  for (let i = 0; i < 20; i++) client.recordTyping('a', true, audience)
  t.match(await two.next('user:typing'), { userId: 1, conversationId: 'a', isTyping: true })
  await client.send('message:direct', { recipientId: 2, message: 'x', conversationId: 'a' })
  t.match(await two.next('user:typing'), { conversationId: 'a', isTyping: false })
  client.recordTyping('b', true, audience)
  t.match(await two.next('user:typing'), { conversationId: 'b', isTyping: true })
  t.match(await two.next('user:typing'), { conversationId: 'b', isTyping: false }, 'idle')
  client.recordTyping('d', true, audience)
  t.match(await two.next('user:typing'), { conversationId: 'd', isTyping: true })
  client.recordTyping('d', false)
  t.match(await two.next('user:typing'), { conversationId: 'd', isTyping: false }, 'said')
  client.recordTyping('e', true, audience)
  t.match(await two.next('user:typing'), { conversationId: 'e', isTyping: true })
  door.cut()
  t.match(await two.next('user:typing'), { conversationId: 'e', isTyping: false }, 'gone')
  t.strictSame(await two.soFar('user:typing'), [])
})
