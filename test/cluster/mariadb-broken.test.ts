import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { check } from './check.js'
import { clusterFor } from './cluster.js'
import { startLoad } from './load.js'
import type { Inspect } from './proxy.js'
import { until } from './until.js'

const isInsert = (bytes: Buffer): boolean => bytes.includes('insert into websocket_events')

/** Breaks every third insert: in turn after it was carried out, with its answer lost, and before it arrives. */
function breaking (done: (how: 'answer' | 'request') => void): Inspect {
  let inserts = 0
  return (bytes, link) => {
    if (!isInsert(bytes) || ++inserts % 3 !== 0) return true
    if (inserts % 2 === 0) {
      link.cutAtAnswer()
      done('answer')
      return true
    }
    link.cut()
    done('request')
    return false
  }
}

t.test('MariaDB breaks off under load', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{ proxied: 'database' }, {}])
  const [a] = nodes

  await t.test('killed with -9 and back on the same port: nothing is stored twice, nothing acked is missing', async (t) => {
    const load = await startLoad(t, nodes, { clubId: 1 })
    await until('messages flow', 5000, () => load.acked.length > 300)
    await cluster.mariadb.kill()
    await sleep(1000)
    await cluster.mariadb.restart()
    const backAt = Date.now()
    const acked = load.acked.length
    await until('messages flow again', 10_000, () => load.acked.length > acked + 100)
    t.comment(`flows again after ${Date.now() - backAt} ms`)
    await until('as before', 5000, () => load.acked.length > acked + 600)
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load)
    t.comment(figures)
    t.strictSame(problems, [])
    t.strictSame(load.closeCodes, [], 'no socket was closed')
  })

  await t.test('connections cut during COMMIT: nothing is stored twice, nothing acked is missing, all is in order', async (t) => {
    const load = await startLoad(t, nodes, { clubId: 2 })
    await until('messages flow', 5000, () => load.acked.length > 100)
    const cuts = { answer: 0, request: 0 }
    a.proxy().inspect = breaking((how) => { cuts[how]++ })
    await until('many are cut', 30_000, () => cuts.answer >= 15 && cuts.request >= 15)
    a.proxy().inspect = () => true
    const acked = load.acked.length
    await until('messages flow again', 5000, () => load.acked.length > acked + 300)
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load)
    t.comment({ ...figures, cuts })
    t.strictSame(problems, [])
    t.strictSame(load.closeCodes, [], 'no socket was closed')
  })
})
