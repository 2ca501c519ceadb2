import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Test } from 'tap'
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

/** Runs an example in this process, with what its page says is there, and returns what it exports. */
export async function runHere (t: Test, name: string, given: Record<string, unknown> = {}, code?: string): Promise<Record<string, unknown>> {
  for (const [name, value] of Object.entries(given)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name)
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
    t.teardown(() => {
      if (before === undefined) Reflect.deleteProperty(globalThis, name)
      else Object.defineProperty(globalThis, name, before)
    })
  }
  return await import(pathToFileURL(writeExample(t, name, code)).href) as Record<string, unknown>
}

/** Runs an example as its reader would, in a process of its own. */
export async function startExample (t: Test, name: string, code?: string): Promise<Child> {
  const child = await startChild(process.execPath, ['--import', 'tsx', writeExample(t, name, code)], {
    cwd: ROOT, env: { PATH: process.env.PATH, DATABASE_URL: 'sqlite::memory:', PORT: '0' }
  })
  t.teardown(async () => { await child.stop(10_000) })
  return child
}
