import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'
import type { IdKind } from '../plugins/index.js'

const FOLDER = new URL('./public/', import.meta.url)
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml'
}
/** Only the host's own files may run or be requested, regardless of the text of names and messages. */
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

/** The demo page at `/`, the dashboard at `/dashboard.html`: plain modules, and the client and the charts they import. */
export async function page (app: FastifyInstance, ids: IdKind): Promise<void> {
  const files = new Map<string, string>()
  for (const name of await readdir(FOLDER)) {
    const text = await readFile(new URL(name, FOLDER), 'utf8')
    files.set(`/${name}`, extname(name) === '.html' ? text.replace('<html ', `<html data-ids="${ids}" `) : text)
  }
  files.set('/', files.get('/index.html') ?? '')
  if (!files.has('/client.js')) files.set('/client.js', await bundleClient())
  const uplot = createRequire(import.meta.url).resolve('uplot/package.json')
  for (const name of ['uPlot.esm.js', 'uPlot.min.css']) files.set(`/${name}`, await readFile(new URL(`./dist/${name}`, `file://${uplot}`), 'utf8'))

  for (const [url, text] of files) {
    app.get(url, { schema: { hide: true } }, async (_request, reply) => await reply
      .headers({ 'content-type': TYPES[extname(url)] ?? TYPES['.html'], 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff' })
      .send(text))
  }
}

/** `fastify-realtime/client` is TypeScript in this repository; installed packages import it directly. */
async function bundleClient (): Promise<string> {
  const source = fileURLToPath(new URL('../client/src/index.ts', import.meta.url))
  if (!existsSync(source)) return 'throw new Error("the client is not built")'
  const { build } = await import('esbuild')
  const { outputFiles } = await build({ entryPoints: [source], bundle: true, format: 'esm', target: 'es2022', write: false })
  return outputFiles[0]?.text ?? ''
}
