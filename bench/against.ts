import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'
import { bundle } from '../test/bundle.js'
import { temporaryFolder } from '../test/exit-hooks.js'
import { createDatabase, startRedis } from '../test/servers.js'
import { realtime, type Dialect } from './dialects.js'
import { median } from './median.js'
import { show } from './page.js'
import { probes, type Probe } from './probes.js'
import { startDatabase, startHost } from './servers.js'

/**
 * `npm run bench:against -- <commit> [<commit>…]`: the example host of this tree beside that of other commits. All are started
 * and warm, and take turns in short blocks, so that other load of the machine affects all of them; each round starts them again.
 * Prints the median of the blocks' ratios to the first commit. `--row`, `--rounds`, `--blocks`; `--plugins` names the plugins
 * that every commit has.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'rounds': { type: 'string', default: '10' },
    'blocks': { type: 'string', default: '4' },
    'row': { type: 'string', multiple: true },
    'plugins': { type: 'string', default: 'connections,presence,typing,channels,stats' }
  }
})
const chosen = Object.entries(probes).filter(([name]) => values.row?.includes(name) ?? true)
if (positionals.length === 0 || chosen.length === 0) throw new Error(`Give a commit, and --row: one of ${Object.keys(probes).join('; ')}`)
const hosts = await Promise.all([...positionals.map(hostOf), bundle().then(({ host }) => ({ name: 'now', host }))])

const [mariadb, redis] = await Promise.all([startDatabase(), startRedis()])
try {
  for (const [row, probe] of chosen) {
    const ratios = hosts.map((): number[] => [])
    const figures = hosts.map((): number[] => [])
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const block of await oneRound(probe)) {
        for (const [i, value] of block.entries()) {
          ratios[i]?.push(value / (block[0] ?? NaN))
          figures[i]?.push(value)
        }
      }
      console.error(`${row}, round ${round + 1}: ${hosts.map(({ name }, i) => `${name} ${show(median(ratios[i] ?? []))}`).join(', ')}`)
    }
    console.log(`${row}, ${probe.unit}: ${hosts.map(({ name }, i) => `${name} ${show(median(figures[i] ?? []))} (${show(median(ratios[i] ?? []))} ×)`).join(', ')}`)
  }
} finally {
  await Promise.all([mariadb.stop(), redis.stop()])
}
process.exit(0)

/** Its blocks: what each host used. */
async function oneRound (probe: Probe): Promise<number[][]> {
  const running = await Promise.all(hosts.map(async ({ name, host }, i) => {
    const database = await createDatabase(mariadb.url) // an own one: an older commit does not know the tables of a newer
    const dialect: Dialect = { ...realtime, name, start: async (env) => await startHost(host, { SUITE: values.plugins, ...env }) }
    const load = await probe.start(dialect, { DATABASE_URL: database.url, ...probe.overRedis === true ? { REDIS_URL: `${redis.url}/${i}` } : {} })
    return { load, stop: async () => { await load.stop(); await database.drop() } }
  }))
  try {
    for (const { load } of running) await load.block() // until the code is compiled
    const blocks: number[][] = []
    for (let i = 0; i < Number(values.blocks); i++) {
      const found: number[] = []
      for (const { load } of i % 2 === 0 ? running : running.toReversed()) {
        found.push(await load.block())
        await sleep(300) // rows that are written later must not count for another host
      }
      blocks.push(i % 2 === 0 ? found : found.toReversed())
    }
    return blocks
  } finally {
    for (const { stop } of running) await stop()
  }
}

/** The example host of a commit as one file; its dependencies are those of this tree. */
async function hostOf (commit: string): Promise<{ name: string, host: string }> {
  const sources = join(temporaryFolder('against'), 'sources')
  mkdirSync(sources)
  execFileSync('sh', ['-c', `git archive "$1" | tar -x -C "$2"`, 'sh', commit, sources])
  const outdir = resolve(`node_modules/.cache/fastify-realtime/${process.pid}-${commit}`)
  const client = ['client/src/index.ts', 'lib/client/index.ts'].map((file) => join(sources, file)).find(existsSync) ?? ''
  const options = { bundle: true, format: 'esm', outdir } as const
  await build({ ...options, entryPoints: { server: join(sources, 'example-host/server.ts') }, packages: 'external', platform: 'node' })
  await build({ ...options, entryPoints: { 'public/client': client }, target: 'es2022' })
  await cp(join(sources, 'example-host/public'), join(outdir, 'public'), { recursive: true })
  return { name: commit, host: join(outdir, 'server.js') }
}
