import t from 'tap'
import { startCluster } from './cluster.js'
import { killRound } from './kill-round.js'

const rounds = [
  { name: 'at 400 messages a second', clubId: 1, before: 2000, between: 3000, after: 2000, pause: 50 }
]

t.test('kill -9 of the sending node, then of the receiving node, under load', async (t) => {
  const cluster = await startCluster([{}, {}, {}])
  t.teardown(async () => { await cluster.stop() })
  const [a, b, c] = cluster.nodes
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes')

  for (const { name, ...round } of rounds) {
    await t.test(`loses nothing that was acked, ${name}`, async (t) => {
      const { problems, ...figures } = await killRound(cluster, [a, b, c], round)
      t.comment(figures)
      t.strictSame(problems, [])
      t.ok(figures.acked > 500, `${figures.acked} acked`)
      t.ok(figures.unknown > 0, 'some were under way when their node was killed')
    })
  }
})
