import { setTimeout as sleep } from 'node:timers/promises'
import { allowAll, buildHost, connect, open, overBackends, user } from './helper.js'

overBackends((test, backend) => {
  test('pongs, pings and fragments at full speed close the socket as a flood, authenticated or not', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const ping = await connect(host, user(1))
    for (let i = 0; i < 400; i++) ping.socket.ping()
    t.equal(await ping.closed, 4429)
    const pong = await open(host)
    for (let i = 0; i < 400; i++) pong.socket.pong()
    t.equal(await pong.closed, 4429)
    const fragments = await connect(host, user(2))
    for (let i = 0; i < 400; i++) fragments.socket.send('x', { fin: false })
    t.equal(await fragments.closed, 4429)
  })

  test('a message in a few fragments is one message, and answers to pings are no flood', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { pingInterval: 50 } })
    const ann = await connect(host, user(1))
    const text = '{"event":"ping","id":"pieces"}'
    for (let at = 0; at < text.length; at += 10) ann.socket.send(text.slice(at, at + 10), { fin: at + 10 >= text.length })
    await ann.take('the answer', ({ id }) => id === 'pieces')
    for (let i = 0; i < 20; i++) {
      host.clock.advance(1000)
      await sleep(10)
      ann.socket.pong()
    }
    t.match(await ann.request('ping'), { timestamp: String })
  })

  test('a frame that does not become complete in 30 s closes the socket', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { pingInterval: 3600_000 } })
    const [slow, idle] = [await connect(host, user(1)), await connect(host, user(2))]
    slow.socket.send('{"event":', { fin: false })
    let isOpen = true
    void slow.closed.then(() => { isOpen = false })
    let moved = 0
    for (; isOpen && moved < 200_000; moved += 5000) {
      await sleep(1100)
      host.clock.advance(5000)
    }
    t.equal(await slow.closed, 4400)
    t.ok(moved >= 25_000, `${moved}`)
    t.match(await idle.request('ping'), { timestamp: String })
  })
})
