import type { Test } from 'tap'
import { allowAll, buildHost, connect, overBackends, user, type Backend, type Client, type Host } from './helper.js'

const FLOODERS = 5
/** Notifications of one flooder that wait for their ack. */
const IN_FLIGHT = 4
const SENDS = 15

/** A member's connections that notify 500 others again and again, until `isOver`. How often they were refused, by code. */
async function flood (clients: readonly Client[], isOver: () => boolean): Promise<Map<string, number>> {
  const refused = new Map<string, number>()
  const recipientIds = Array.from({ length: 500 }, (_, i) => 1000 + i)
  await Promise.all(clients.flatMap((client) => Array.from({ length: IN_FLIGHT }, async () => {
    while (!isOver()) {
      await client.request('notification:send', { recipientIds, title: 't', body: 'b' }).catch(async ({ code = 'none' }: { code?: string }) => {
        refused.set(code, (refused.get(code) ?? 0) + 1)
        await new Promise((resolve) => setTimeout(resolve, 20))
      })
    }
  })))
  return refused
}

async function floodedHost (t: Test, backend: Backend): Promise<Host> {
  return await buildHost(t, {
    backend,
    options: { ...allowAll, maxQueuedEvents: 3000 },
    connections: { framesPerSecond: 0 },
    channels: { recipientsPerMinute: 0, maxPending: 0 }
  })
}

overBackends((test, backend) => {
  if (backend.endsWith('string ids')) return
  test('a tenant that floods is refused, and every message of another tenant is stored meanwhile', async (t) => {
    const host = await floodedHost(t, backend)
    const clients = await Promise.all(Array.from({ length: FLOODERS }, async (_, i) => await connect(host, user(1 + i))))
    const ann = await connect(host, user(1, { tenantId: 2 }))
    let isOver = false
    t.teardown(() => { isOver = true })
    const flooding = flood(clients, () => isOver)
    const times: number[] = []
    for (let i = 0; i < SENDS; i++) {
      const began = performance.now()
      await ann.request('message:group', { channel: 'group.x', message: `${i}`, conversationId: 'c' })
      times.push(performance.now() - began)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    isOver = true
    const refused = await flooding
    times.sort((a, b) => a - b)
    t.equal(times.length, SENDS)
    t.ok((refused.get('RT_RATE_LIMITED') ?? 0) > 0, JSON.stringify([...refused]))
    t.comment(`median ${times[SENDS >> 1]?.toFixed(1)} ms, slowest ${times.at(-1)?.toFixed(1)} ms; refused ${JSON.stringify([...refused])}`)
  })
})
