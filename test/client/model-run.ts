import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { build, type Plugin } from 'esbuild'
import { temporaryFolder } from '../exit-hooks.js'

const folder = temporaryFolder('model')

export interface Result { count: number, failures: Array<{ seed: number, problems: string[], steps: string[] }> }

/** The client, and what drives it, as plain JavaScript: compiled once for all workers. `broken`: with a line replaced. */
export async function compile (name: string, broken?: { file: string, from: string, to: string }): Promise<{ file: string, worker: string }> {
  const breaking: Plugin = {
    name: 'break',
    setup: (esbuild) => {
      esbuild.onLoad({ filter: /client\/src\/\w+\.ts$/ }, async ({ path }) => {
        const code = await readFile(path, 'utf8')
        if (!path.endsWith(`/${broken?.file}`)) return { contents: code, loader: 'ts' }
        if (!code.includes(broken!.from)) throw new Error(`${broken!.file} has no ${broken!.from}`)
        return { contents: code.replace(broken!.from, broken!.to), loader: 'ts' }
      })
    }
  }
  await build({
    entryPoints: { [name]: 'client/src/index.ts', worker: 'test/client/model-worker.ts' },
    bundle: true, packages: 'external', platform: 'node', format: 'esm', outdir: folder, outExtension: { '.js': '.mjs' }, plugins: [breaking]
  })
  return { file: resolve(join(folder, `${name}.mjs`)), worker: resolve(join(folder, 'worker.mjs')) }
}

/** Runs so many sequences over all cores, until `enough` of them found something. */
export async function run ({ file, worker }: { file: string, worker: string }, first: number, sequences: number, enough = 3): Promise<Result> {
  const step = Math.min(sequences, availableParallelism())
  const results = await Promise.all(Array.from({ length: step }, async (_, i) => await new Promise<Result>((resolve, reject) => {
    new Worker(worker, { workerData: { file, from: first + i, to: first + sequences, step, enough } }).once('message', resolve).once('error', reject)
  })))
  return { count: results.reduce((sum, { count }) => sum + count, 0), failures: results.flatMap(({ failures }) => failures) }
}
