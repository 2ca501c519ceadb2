import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundle, bundleTests } from './bundle.js'
import { memoryFolder } from './exit-hooks.js'
import { locateCommands, type Command } from './install-packages.js'
import { runFile, type FileResults } from './run-file.js'
import { startMariadb, startRedis, type Server } from './servers.js'

/** Most files wait for leases and timers: one more than the cores of a small machine keeps it busy. More starve each other past their deadlines. */
const JOBS = 3
/**
 * A file that fails beside others is run once more, alone, and then its result counts: on a small machine three files at
 * once can starve each other past their deadlines. With more failures than this, nothing is run again.
 */
const MAX_REPEATED = 8

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
process.env.TEST_DATA_FOLDER ??= memoryFolder()

let passed = 0
let failed = 0
const servers: Server[] = []
try {
  const files = await findFiles(process.argv.slice(2))
  const [{ host, cli }, scripts] = await Promise.all([bundle(), bundleTests(files)])
  Object.assign(process.env, { BUNDLED_HOST: host, BUNDLED_CLI: cli })
  await installMissing(files)
  await startServers()
  const failures: FileResults[] = []
  await Promise.all(Array.from({ length: JOBS }, () => runQueue(files, scripts, failures)))
  for (const results of failures) {
    if (failures.length > MAX_REPEATED) count(results)
    else await repeat(results.file, scripts)
  }
} catch (error) {
  failed += 1
  console.error(error instanceof Error ? error.message : error)
}
await Promise.all(servers.map((server) => server.stop()))
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)

async function findFiles (given: string[]): Promise<string[]> {
  const missing = given.filter((file) => !existsSync(file))
  if (missing.length > 0) throw new Error(`No such test file: ${missing.join(', ')}`)
  if (given.length > 0) return given
  const entries = await readdir('test', { recursive: true })
  const files = entries.filter((entry) => entry.endsWith('.test.ts')).map((entry) => join('test', entry))
  if (files.length === 0) throw new Error('There are no test files.')
  return files.sort()
}

/** All at once, before anything is measured: it takes a minute on a clean machine, and apt works for one at a time. */
async function installMissing (files: string[]): Promise<void> {
  const drivesBrowser = files.some((file) => file.includes('browser'))
  const needed: Command[] = []
  if (!process.env.DATABASE_URL) needed.push('mariadbd', 'mariadb-install-db')
  if (!process.env.REDIS_URL) needed.push('redis-server')
  if (drivesBrowser && !process.env.CHROMIUM_PATH) needed.push('chromium')
  await locateCommands(...needed)
}

async function startServers (): Promise<void> {
  process.env.DATABASE_URL ||= await start(startMariadb)
  process.env.REDIS_URL ||= await start(startRedis)
}

async function start (startServer: () => Promise<Server>): Promise<string> {
  const server = await startServer()
  servers.push(server)
  return server.url
}

async function runQueue (files: string[], scripts: Map<string, string>, failures: FileResults[]): Promise<void> {
  for (let file = files.shift(); file; file = files.shift()) {
    const results = await runFile(file, scripts.get(file))
    report(results)
    if (results.failed > 0) failures.push(results)
    else count(results)
  }
}

async function repeat (file: string, scripts: Map<string, string>): Promise<void> {
  console.log(`${file} failed beside others and is run again, alone:`)
  const results = await runFile(file, scripts.get(file))
  report(results)
  count(results)
}

function count (results: FileResults): void {
  passed += results.passed
  failed += results.failed
}

function report (results: FileResults): void {
  const verdict = results.failed > 0 ? 'FAIL' : 'ok  '
  console.log(`${verdict} ${results.file} (${results.passed + results.failed} tests, ${results.seconds.toFixed(1)} s)`)
  if (results.stderr) console.log(results.stderr.trimEnd())
  for (const problem of results.problems) console.log(`\n✗ ${problem}`)
  if (results.problems.length > 0) console.log()
}
