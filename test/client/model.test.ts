import t from 'tap'
import { compile, run } from './model-run.js'

/* `SEED=17 npm test -- test/client/model.test.ts` runs one sequence again and prints its steps; `SEQUENCES=100000` runs more. */

const SEQUENCES = Number(process.env.SEQUENCES ?? 10_000)

t.test('whatever happens in whatever order, nothing is lost, delivered twice, sent late or left behind', async (t) => {
  const seed = Number(process.env.SEED)
  const client = await compile('client')
  const begun = performance.now()
  const { count, failures } = seed ? await run(client, seed, 1) : await run(client, 1, SEQUENCES)
  t.comment(`${count} sequences in ${Math.round(performance.now() - begun)} ms`)
  for (const { seed, problems, steps } of failures) t.fail(`SEED=${seed}: ${problems[0]}`, { problems, steps })
  if (!seed) t.equal(count, SEQUENCES)
})
