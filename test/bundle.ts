import { rmSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { build } from 'esbuild'
import { atExit } from './exit-hooks.js'

// Of this process alone, and where what the bundle imports is found.
const FOLDER = `node_modules/.cache/fastify-realtime/${process.pid}`

/**
 * The example host and the command-line tool, as one file of plain JavaScript each: the many processes of a run start in
 * a third of the time. Their paths.
 */
export async function bundle (): Promise<{ host: string, cli: string }> {
  removeAtExit()
  await Promise.all([
    build({
      entryPoints: { server: 'example-host/server.ts', cli: 'plugins/cli.ts' },
      bundle: true,
      packages: 'external',
      platform: 'node',
      format: 'esm',
      outdir: FOLDER
    }),
    build({ entryPoints: { 'public/client': 'client/src/index.ts' }, bundle: true, format: 'esm', target: 'es2022', outdir: FOLDER })
  ])
  // Not beside the builds: both make the folder `public`, and whoever comes second would fail.
  await cp('example-host/public', join(FOLDER, 'public'), { recursive: true })
  return { host: join(FOLDER, 'server.js'), cli: join(FOLDER, 'cli.js') }
}

function removeAtExit (): void {
  atExit(() => { rmSync(FOLDER, { recursive: true, force: true }) })
}

/** A script of the tests as one file of plain JavaScript, for a process under measurement. Its path. */
export async function bundleScript (script: string): Promise<string> {
  removeAtExit()
  const outfile = join(FOLDER, `${basename(script, '.ts')}.js`)
  await build({ entryPoints: [script], bundle: true, packages: 'external', platform: 'node', format: 'esm', outfile })
  return outfile
}
