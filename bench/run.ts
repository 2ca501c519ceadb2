import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createDatabase, startRedis } from '../test/servers.js'
import { chart } from './chart.js'
import { median } from './median.js'
import { show, table, writePage } from './page.js'
import { rows, type Bar, type Figures, type Row } from './rows.js'
import { startDatabase } from './servers.js'
import { settle } from './settle.js'

/**
 * `npm run bench`: every row, peers and fastify-realtime in turn, in several rounds; medians as a table, which docs/speed.md shows, as
 * results.json and as chart.svg. `-- --rounds 3 --row connect --row latency` for less.
 */
const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, row: { type: 'string', multiple: true } } })
const rounds = Number(values.rounds)
const chosen = values.row === undefined ? rows : rows.filter(({ name }) => values.row?.includes(name))
if (!(rounds > 0) || chosen.length === 0) throw new Error(`--rounds: a number; --row: one of ${rows.map(({ name }) => name).join('; ')}`)

const HERE = import.meta.dirname
if (!existsSync(join(HERE, 'node_modules'))) execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: HERE, stdio: 'inherit' })

const began = Date.now()
const [database, redis] = await Promise.all([startDatabase(), startRedis()])
const strings = await createDatabase(database.url) // an own one: a database has one kind of ids
const mariadb = { pid: database.pid, settled: async (ids?: 'strings') => await settle(ids === 'strings' ? strings.url : database.url) }
const found = new Map<Row, Figures[]>()
try {
  for (let round = 1; round <= rounds; round++) {
    for (const row of chosen.filter(({ once = false }) => !once || round === 1)) {
      const figures = await row.round({ mariadb, redis })
      found.set(row, [...found.get(row) ?? [], figures])
      console.error(`round ${round}, ${row.name}: ${Object.entries(figures).map(([name, value]) => `${name} ${show(value)}`).join(', ')}`)
    }
  }
} finally {
  await Promise.all([database.stop(), redis.stop()])
}

const results = chosen.map((row) => {
  const figures = found.get(row) ?? []
  return {
    name: row.name,
    work: row.once === true ? `${row.work}; one round` : row.work,
    unit: row.unit,
    medians: Object.fromEntries(Object.keys(figures[0] ?? {}).map((name) => [name, median(figures.map((round) => round[name] ?? NaN))])),
    bars: row.bars.map((bar) => judge(bar, figures))
  }
})
const about = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown'}`,
  node: process.version,
  versions: {
    ...Object.fromEntries(['socket.io', '@socket.io/redis-adapter', 'ws', '@fastify/websocket', 'fastify', 'bun', 'mysql2'].map((name) => [name, versionOf(name)])),
    ...serverVersions()
  },
  command: rounds === 5 ? 'npm run bench' : `npm run bench -- --rounds ${rounds}`
}
const all = { ...about, results }
if (values.row === undefined) {
  writeFileSync(join(HERE, 'results.json'), `${JSON.stringify(all, null, 2)}\n`)
  writeFileSync(join(HERE, 'chart.svg'), chart(results))
  writePage(all)
}
console.log(table(all))
const missed = results.flatMap(({ bars }) => bars).filter(({ held }) => !held).length
console.log(`${Math.round((Date.now() - began) / 60_000)} minutes; ${missed === 0 ? 'all goals met' : `${missed} goals missed`}`)
process.exit(0)

/** By the median of the rounds' ratios: within a round the machine was the same for both, from one to the next it may not be. */
function judge ({ of = 'fastify-realtime', than, atMost, atLeast }: Bar, rounds: Figures[]): { text: string, held: boolean, ratio: number } {
  const ratio = median(rounds.map((figures) => (figures[of] ?? NaN) / (than === undefined ? 1 : figures[than] ?? NaN)))
  const held = atMost !== undefined ? ratio <= atMost : ratio >= (atLeast ?? 0)
  const bar = atMost !== undefined ? `≤ ${show(atMost)}` : `≥ ${show(atLeast ?? 0)}`
  return { text: `${of === 'fastify-realtime' ? '' : `${of}: `}${show(ratio)}${than === undefined ? '' : ` × ${than}`} (${bar})`, held, ratio }
}

function versionOf (name: string): string {
  return (JSON.parse(readFileSync(join(HERE, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version
}

function serverVersions (): Record<string, string> {
  const of = (command: string): string => /\d+\.\d+\.\d+/.exec(execFileSync(command, ['--version'], { encoding: 'utf8' }))?.[0] ?? ''
  return { MariaDB: of('mariadbd'), Redis: of('redis-server') }
}
