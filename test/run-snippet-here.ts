import { pathToFileURL } from 'node:url'
import type { Test } from 'tap'
import { writeExample } from './run-snippet.js'

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
