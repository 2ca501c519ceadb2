// Builds the package: for each entry one minified file of modules and one of CommonJS, each with its types and its source map, in dist/.
import { execFileSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import ts from 'typescript'

const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const cwd = fileURLToPath(new URL('.', import.meta.url))
// Built beside dist/, which whoever packs meanwhile finds complete.
const [dist, next] = [new URL('dist', import.meta.url), new URL('dist-next', import.meta.url)]
rmSync(next, { recursive: true, force: true })
execFileSync(process.execPath, [tsc, '-p', '.', '--emitDeclarationOnly', '--outDir', 'dist-next/esm'], { cwd, stdio: 'inherit' })
cpSync(new URL('dist-next/esm', import.meta.url), new URL('dist-next/cjs', import.meta.url), { recursive: true })
const reserveProps = new RegExp(`^(${[...keptNames()].join('|')})$`)
await Promise.all(['esm', 'cjs'].flatMap((format) => {
  const bundle = (name, options) => build({
    absWorkingDir: cwd, entryPoints: [`src/${name}.ts`], bundle: true, format, target: 'es2020', minify: true, sourcemap: true, outfile: `dist-next/${format}/${name}.js`, logLevel: 'warning', ...options
  })
  return [
    bundle('index', { mangleProps: /./, reserveProps }),
    // Where components are rendered on a server, too, the first line says that the hooks also run in the page.
    bundle('react/index', { external: ['react', '../index.js'], banner: { js: "'use client'" } })
  ]
}))
writeFileSync(new URL('dist-next/cjs/package.json', import.meta.url), '{ "type": "commonjs" }\n')
rmSync(dist, { recursive: true, force: true })
renameSync(next, dist)

/**
 * Names that stay: those of the language, and all members in the declarations of what others see. Every other property is the
 * client's own, and gets a short name.
 */
function keptNames () {
  const lib = new URL('.', pathToFileURL(createRequire(import.meta.url).resolve('typescript')))
  const declarations = [
    ...['client', 'clock', 'errors', 'globals', 'options', 'types', 'wire'].map((name) => new URL(`dist-next/esm/${name}.d.ts`, import.meta.url)),
    ...readdirSync(lib).filter((name) => /^lib\.es(5|20(1\d|20))\b.*\.d\.ts$/.test(name)).map((name) => new URL(name, lib))
  ]
  const names = new Set()
  const visit = (node) => {
    if ((ts.isTypeElement(node) || ts.isClassElement(node)) && node.name && ts.isIdentifier(node.name)) names.add(node.name.text)
    ts.forEachChild(node, visit)
  }
  for (const file of declarations) visit(ts.createSourceFile(file.pathname, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2020))
  return names
}
