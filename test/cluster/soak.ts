import { bundle } from '../bundle.js'
import { startCluster, type Node } from './cluster.js'
import { killRound, type KillRound } from './kill-round.js'

/**
 * The kill test again and again, at other moments and other loads each time: `npm run test:soak -- 20` for 20 rounds.
 * SOAK_MINUTES bounds it, 60 unless given; a round that began is finished.
 */
const rounds = Number(process.argv[2] ?? 100)
const minutes = Number(process.env.SOAK_MINUTES ?? 60)
if (!(rounds > 0) || !(minutes > 0)) throw new Error('a number of rounds, and SOAK_MINUTES as a number')

const LOADS: Array<Pick<KillRound, 'pause' | 'retrying'>> = [
  { pause: 50, retrying: 0.5 },
  { pause: 20, retrying: 1 },
  { pause: 100, retrying: 0 },
  { pause: 30, retrying: 0.8 }
]
const within = (from: number, to: number): number => from + Math.random() * (to - from)

process.env.BUNDLED_HOST = (await bundle()).host
const cluster = await startCluster([{}, {}, {}])
let [a, b, c] = cluster.nodes as [Node, Node, Node]
const deadline = Date.now() + minutes * 60_000
let passed = 0
let failed = 0
let slowest = 0
for (let round = 1; round <= rounds && Date.now() < deadline; round++) {
  const options = { ...LOADS[round % LOADS.length], clubId: round, before: within(300, 1500), between: within(50, 2000), after: within(300, 1000) }
  try {
    const { problems, ...figures } = await killRound(cluster, [a, b, c], options)
    if (problems.length === 0) passed++
    else failed++
    slowest = Math.max(slowest, figures.arrivedAfter)
    console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} round ${round}: ${JSON.stringify({ ...options, ...figures })}`)
    for (const problem of problems) console.log(`     ${problem}`)
  } catch (err) {
    failed++
    console.log(`FAIL round ${round}: ${JSON.stringify(options)}`, err)
  }
  // Whoever survived continues, so that it also lives through many deaths; the roles go round.
  ;[a, b, c] = [c, ...await Promise.all([cluster.start(), cluster.start()])]
}
await cluster.stop()
if (passed + failed < rounds) console.log(`ended after ${minutes} minutes, before all ${rounds} rounds`)
console.log(`everything had arrived ${slowest} ms after the last message, at the latest`)
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
