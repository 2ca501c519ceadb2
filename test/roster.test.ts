import t, { type Test } from 'tap'
import { Ids } from '../lib/ids.js'
import { MemoryRoster } from '../lib/roster/memory/roster.js'
import { connections } from './roster/connections.js'
import { edges } from './roster/edges.js'
import { emptied } from './roster/emptied.js'
import { interleaved } from './roster/interleaved.js'
import { invisible } from './roster/invisible.js'
import { nodes } from './roster/nodes.js'
import { presence } from './roster/presence.js'
import { openCluster } from './roster/redis.js'
import { tenants } from './roster/tenants.js'
import { turns } from './roster/turns.js'
import { typing } from './roster/typing.js'
import { takingNumbers, times, type OpenWorld } from './roster/world.js'
import { startRedis } from './servers.js'
import { TestClock } from './suites.js'

function obligations (t: Test, open: OpenWorld): void {
  edges(t, open)
  connections(t, open)
  presence(t, open)
  typing(t, open)
  tenants(t, open)
}

for (const ids of ['integer', 'string'] as const) {
  t.test(`The roster of one process, with ${ids} ids`, async (t) => {
    obligations(t, async (t) => {
      const clock = new TestClock()
      const roster = new MemoryRoster('node-here', new Ids(ids), clock, times)
      await roster.start()
      t.teardown(async () => { await roster.close() })
      const { here } = ids === 'integer' ? { here: roster } : takingNumbers({ here: roster })
      return { clock, here, there: here }
    })
  })

  t.test(`The roster of several nodes over Redis, with ${ids} ids`, async (t) => {
    const open = await openCluster(t, ids)
    obligations(t, open)
    nodes(t, open)
    interleaved(t, open)
    turns(t, open)
    invisible(t, open, ids === 'string')
  })

  t.test(`The roster over a Redis that loses everything, with ${ids} ids`, async (t) => {
    const redis = await startRedis()
    t.teardown(async () => { await redis.stop() })
    emptied(t, await openCluster(t, ids, redis.url))
  })
}
