import t from 'tap'
import { clusterFor } from './cluster.js'
import { killRound } from './kill-round.js'

const rounds = [
  { name: 'at 400 messages a second', clubId: 1, before: 2000, between: 3000, after: 2000, pause: 50 }
]

t.test('kill -9 of the sending node, then of the receiving node, under load', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}, {}])

  for (const { name, ...round } of rounds) {
    await t.test(`loses nothing that was acked, ${name}`, async (t) => {
      const { problems, ...figures } = await killRound(cluster, nodes, round)
      t.comment(figures)
      t.strictSame(problems, [])
      t.ok(figures.acked > 500, `${figures.acked} acked`)
      t.ok(figures.unknown > 0, 'some were under way when their node was killed')
    })
  }
})
