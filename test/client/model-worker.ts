import { parentPort, workerData } from 'node:worker_threads'
import type * as Package from '../../client/src/index.js'
import { runSequence, type Create } from './model.js'

/** Runs the sequences `from`, `from + step`, … below `to`, with the client in `file`, until one finds something or the time is over. */
const { file, from, to, step, enough } = workerData as { file: string, from: number, to: number, step: number, enough: number }
const { WebSocketClient } = await import(file) as typeof Package
const create: Create = (options) => new WebSocketClient(options)

// What listeners of the client would print, and stacks that nobody reads.
console.error = () => {}
Error.stackTraceLimit = 0

let count = 0
const failures: Array<{ seed: number, problems: string[], steps: string[] }> = []
for (let seed = from; seed < to && failures.length < enough; seed += step) {
  const { problems, steps } = await runSequence(seed, create)
  count++
  if (problems.length > 0) failures.push({ seed, problems, steps })
}
parentPort?.postMessage({ count, failures })
