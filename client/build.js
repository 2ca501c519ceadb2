// Builds the package: one file of modules and one of CommonJS, each with its types, in dist/.
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const cwd = fileURLToPath(new URL('.', import.meta.url))

rmSync(new URL('dist', import.meta.url), { recursive: true, force: true })
await Promise.all(['esm', 'cjs'].map(async (format) => {
  execFileSync(process.execPath, [tsc, '-p', '.', '--emitDeclarationOnly', '--outDir', `dist/${format}`], { cwd, stdio: 'inherit' })
  await build({ absWorkingDir: cwd, entryPoints: ['src/index.ts'], bundle: true, format, target: 'es2020', outfile: `dist/${format}/index.js`, logLevel: 'warning' })
}))
writeFileSync(new URL('dist/cjs/package.json', import.meta.url), '{ "type": "commonjs" }\n')
