import { rmSync } from 'node:fs'
import { cp, readFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build, type Plugin } from 'esbuild'
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

/** Modules keep what they know about where they are, though they run elsewhere. */
const inPlace: Plugin = {
  name: 'in-place',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const code = await readFile(path, 'utf8')
      if (!code.includes('import.meta.')) return null
      return { contents: `const metaUrl = ${JSON.stringify(pathToFileURL(path).href)}, metaDirname = ${JSON.stringify(dirname(path))}; ${code}`, loader: 'ts' }
    })
  }
}

/**
 * Test files as plain JavaScript that shares its modules: each starts in a third of the time, because no module of the
 * dependencies passes through a hook. The scripts, by file. A file that runs examples in its own process is not among them:
 * they must find the modules that it has.
 */
export async function bundleTests (files: readonly string[]): Promise<Map<string, string>> {
  removeAtExit()
  const { metafile: { inputs, outputs } } = await build({
    entryPoints: [...files],
    bundle: true,
    splitting: true,
    packages: 'external',
    // Of the package as published; a test may import a file for what it does.
    ignoreAnnotations: true,
    platform: 'node',
    format: 'esm',
    keepNames: true,
    sourcemap: true,
    sourcesContent: false,
    plugins: [inPlace],
    define: { 'import.meta.url': 'metaUrl', 'import.meta.dirname': 'metaDirname' },
    outbase: '.',
    outdir: join(FOLDER, 'tests'),
    metafile: true
  })
  const runsExamples = (file: string): boolean => inputs[file]?.imports.some(({ path }) => path === 'test/run-snippet-here.ts') === true
  return new Map(Object.entries(outputs).flatMap(([script, { entryPoint }]) => entryPoint === undefined || runsExamples(entryPoint) ? [] : [[entryPoint, resolve(script)]]))
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
