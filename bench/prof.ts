import * as d from './dialects.js'
import { measure } from './rows/fan-out.js'
process.env.BENCH_NODE_FLAGS = '--cpu-prof --cpu-prof-dir=/tmp/prof'
const env = {}
const server = await d.suite.start(env)
const [p, f] = process.argv.slice(2).map(Number)
console.log(await measure(d.suite, server, server, { members: 500, publishers: p!, inFlight: f!, seconds: 4 }))
process.kill(server.pid, 'SIGTERM')
await new Promise((r) => setTimeout(r, 4000))
process.exit(0)
