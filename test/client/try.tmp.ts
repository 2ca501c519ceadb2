import { WebSocketClient } from '../../client/src/index.js'
import { runSequence } from './model.js'
const from = Number(process.argv[2] ?? 1), n = Number(process.argv[3] ?? 100)
const begun = performance.now()
let bad = 0
console.error = () => {}
for (let seed = from; seed < from + n; seed++) {
  const { problems, steps } = await runSequence(seed, (options) => new WebSocketClient(options))
  if (problems.length > 0) { bad++; if (bad <= 5) console.log(seed, problems.slice(0, 4), n === 1 ? steps : '') }
}
console.log(`${bad} bad of ${n}, ${Math.round(performance.now() - begun)} ms`)
process.exit(0)
