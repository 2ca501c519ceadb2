import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { bundleScript } from './bundle.js'
import { startChild, type Child } from './child-process.js'
import { example, ROOT } from './examples.js'

/** The package's names in an example, pointing at the sources. */
const SOURCES: Record<string, string> = {
  "'fastify-realtime'": "'../plugins/index.js'",
  "'fastify-realtime/schemas'": "'../plugins/schemas.js'",
  "'fastify-realtime/testing'": "'../plugins/testing.js'",
  "'fastify-realtime/client'": "'../client/src/index.js'",
  "'fastify-realtime-client'": "'../client/src/index.js'"
}

let serial = 0

/** Writes an example beside the sources; its path. Removed with the test. */
export function writeExample (t: Test, name: string, code = example(name)): string {
  const folder = join(ROOT, 'data')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `snippet-${name}-${process.pid}-${serial++}.ts`)
  writeFileSync(file, code.replace(/'fastify-realtime[a-z/-]*'/g, (entry) => SOURCES[entry] ?? entry))
  t.teardown(() => { rmSync(file, { force: true }) })
  return file
}

/** Runs an example as its reader would, in a process of its own. */
export async function startExample (t: Test, name: string, code?: string): Promise<Child> {
  const child = await startChild(process.execPath, [await bundleScript(writeExample(t, name, code))], {
    cwd: ROOT, env: { PATH: process.env.PATH, DATABASE_URL: 'sqlite::memory:', PORT: '0' }
  })
  t.teardown(async () => { await child.stop(10_000) })
  return child
}
