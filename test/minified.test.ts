import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { build } from 'esbuild'
import { rmSync } from 'node:fs'
import t from 'tap'
import { createDatabase } from './servers.js'

// Where what the bundle imports is found.
const FOLDER = `node_modules/.cache/fastify-realtime/minified-${process.pid}`

t.test('a host that is bundled and minified starts on every kind of database', async (t) => {
  t.teardown(() => { rmSync(FOLDER, { recursive: true, force: true }) })
  const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
  t.teardown(drop)
  const outfile = join(FOLDER, 'host.mjs')
  await build({
    entryPoints: ['test/minified-host.ts'],
    bundle: true,
    minify: true,
    keepNames: false,
    platform: 'node',
    format: 'esm',
    // All but what is no JavaScript alone: class names of Kysely and mysql2 go as well.
    external: ['libsql', 'fastify', '@fastify/*', 'ws', 'ioredis', 'prom-client'],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    outfile
  })
  const output = await new Promise<string>((resolve) => {
    execFile(process.execPath, [outfile], { env: { ...process.env, DATABASE_URL: url } }, (_err, stdout, stderr) => { resolve(stdout + stderr) })
  })
  t.strictSame(output.trim().split('\n'), ['an SQLite URL: works', 'a MySQL URL: works', 'a Kysely instance on SQLite: works', 'a Kysely instance on MySQL: works'])
})
