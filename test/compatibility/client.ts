/// <reference lib="dom" />
import { existsSync, readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { chromium, type Browser, type Page } from 'playwright-core'
import { buildApp, tokenOf } from '../../plugins/testing.js'
import { until } from '../cluster/until.js'
import { locateCommands } from '../install-packages.js'
import { createProject, type Project } from './client-projects.js'
import * as files from './client-files.js'

/*
 * Runs the packed client on platforms and with tools that are installed from npm for this, against a real host, and prints
 * what worked: `npm run test:compatibility`, or some of it by name: `npm run test:compatibility -- vite bun`.
 */

/** The folder of pages that Chromium opens now. */
let pages = ''
const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'"
const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript' }

const { app } = await buildApp({
  core: { authorize: () => true },
  before: (app: FastifyInstance) => {
    app.get('/pages/*', async (request, reply) => {
      const file = join(pages, normalize(`/${(request.params as { '*': string })['*']}`))
      if (!existsSync(file)) return await reply.code(404).send()
      return await reply.headers({ 'content-type': TYPES[extname(file)] ?? 'text/plain', 'content-security-policy': POLICY }).send(readFileSync(file))
    })
  }
})
await app.listen({ port: 0, host: '127.0.0.1' })
const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`

let users = 0
/** Two users and a channel that no other check knows. */
const newWorld = (): { baseUrl: string, tokens: string[], channel: string } => ({
  baseUrl: `${url}/api/websocket`, tokens: [1, 2].map(() => tokenOf({ tenantId: 1, userId: ++users })), channel: `group.${users}`
})
const world = (): { WORLD: string } => ({ WORLD: JSON.stringify(newWorld()) })

// Platforms

const inNode = (version: string) => async (): Promise<string> => {
  const name = `node-${process.platform}-${process.arch}`
  const project = await createProject(`node-${version}`, [`${name}@${version}`, 'ws'])
  project.write(files.program)
  const node = join(project.folder, 'node_modules', name, 'bin/node')
  const transports = [await project.run(node, ['main.mjs'], world()), await project.run(node, ['main.cjs'], world())]
  return `Node ${project.version(name)}, as a module and as CommonJS: ${transports.join(', ')}`
}
const inBun = async (): Promise<string> => {
  const name = `@oven/bun-${process.platform}-${process.arch === 'arm64' ? 'aarch64' : process.arch}`
  const project = await createProject('bun', [name, 'ws'])
  project.write(files.program)
  const bun = join(project.folder, 'node_modules', name, 'bin/bun')
  return `Bun ${project.version(name)}: ${await project.run(bun, ['main.mjs'], world())}, ${await project.run(bun, ['main.cjs'], world())}`
}
const inDeno = async (): Promise<string> => {
  const project = await createProject('deno', ['deno'])
  project.write(files.program)
  const transport = await project.run('node_modules/.bin/deno', ['run', '--no-prompt', '--node-modules-dir=manual', '--allow-net', '--allow-env', '--allow-read', 'main.mjs'], world())
  return `Deno ${project.version('deno')}: ${transport}`
}

// Test runners

const inJest = async (): Promise<string> => {
  const project = await createProject('jest', ['jest', 'jest-environment-jsdom', 'whatwg-fetch', 'ws'], 'commonjs')
  project.write({ ...files.jest, 'jest.config.json': JSON.stringify({ testMatch: ['**/*.test.cjs'], testEnvironmentOptions: { url: `${url}/` } }) })
  for (const file of ['node.test.cjs', 'jsdom.test.cjs']) await project.run('node_modules/.bin/jest', ['--config', 'jest.config.json', file], world())
  return `Jest ${project.version('jest')}, environments node and jsdom`
}
const inVitest = async (): Promise<string> => {
  const project = await createProject('vitest', ['vitest', 'jsdom', 'ws'])
  project.write(files.vitest)
  for (const environment of ['node', 'jsdom']) {
    project.write({ 'vitest.config.mjs': `export default { test: { environment: '${environment}', environmentOptions: { jsdom: { url: '${url}/' } }, include: ['*.vitest.mjs'] } }` })
    await project.run('node_modules/.bin/vitest', ['run'], world())
  }
  return `Vitest ${project.version('vitest')}, environments node and, with the sockets of ws, jsdom ${project.version('jsdom')}`
}
const inJsdom = async (): Promise<string> => {
  const project = await createProject('jsdom', ['jsdom', 'esbuild', 'whatwg-fetch'])
  project.write({ ...files.page, ...files.jsdom })
  await project.run('node_modules/.bin/esbuild', ['jsdom-page.mjs', '--bundle', '--outfile=bundle.js'])
  return `jsdom ${project.version('jsdom')}: ${await project.run(process.execPath, ['jsdom.mjs'], { ...world(), PAGE: `${url}/pages/` })}`
}

// Bundlers, whose pages run in Chromium

let browser: Browser | undefined
const newPage = async (path: string, world: object): Promise<Page> => {
  browser ??= await chromium.launch({ executablePath: process.env.CHROMIUM_PATH || (await locateCommands('chromium')).chromium, args: ['--no-sandbox', '--disable-gpu', '--no-first-run'] })
  const page = await browser.newPage()
  await page.goto(`${url}/pages/${path}#${encodeURIComponent(JSON.stringify(world))}`)
  return page
}
const inChromium = async (folder: string): Promise<string> => {
  pages = folder
  const page = await newPage('index.html', newWorld())
  const result = await page.waitForFunction(() => (globalThis as { result?: string }).result, null, { timeout: 40_000 })
  const text = String(await result.jsonValue())
  await page.close()
  if (!/^(websocket|polling)$/.test(text)) throw new Error(text)
  return `${text} in Chromium ${browser?.version()}`
}
const byEsbuild = async (): Promise<string> => {
  const project = await createProject('esbuild', ['esbuild'])
  project.write({ ...files.page, 'dist/index.html': files.html })
  await project.run('node_modules/.bin/esbuild', ['main.mjs', '--bundle', '--minify', '--outfile=dist/main.js'])
  return `esbuild ${project.version('esbuild')}: ${await inChromium(join(project.folder, 'dist'))}`
}
const byVite = async (): Promise<string> => {
  const project = await createProject('vite', ['vite'])
  project.write({ ...files.page, 'index.html': files.html.replace('main.js', 'main.mjs') })
  await project.run('node_modules/.bin/vite', ['build', '--base', './'])
  return `Vite ${project.version('vite')}: ${await inChromium(join(project.folder, 'dist'))}`
}
const byWebpack = async (): Promise<string> => {
  const project = await createProject('webpack', ['webpack', 'webpack-cli'])
  project.write({ ...files.page, 'dist/index.html': files.html })
  await project.run('node_modules/.bin/webpack', ['--mode', 'production', '--entry', './main.mjs', '--output-path', join(project.folder, 'dist')])
  return `webpack ${project.version('webpack')}: ${await inChromium(join(project.folder, 'dist'))}`
}

/** Effects run twice there: one client must be left, and hear everything once. */
const inReact = async (): Promise<string> => {
  const project: Project = await createProject('react', ['react', 'react-dom', 'esbuild'])
  project.write({ ...files.react, 'dist/index.html': files.html })
  await project.run('node_modules/.bin/esbuild', ['react.mjs', '--bundle', '--define:process.env.NODE_ENV="development"', '--outfile=dist/main.js'])
  pages = join(project.folder, 'dist')
  const world = newWorld()
  const page = await newPage('index.html', world)
  await page.waitForFunction(() => document.querySelectorAll('.ready').length === 2)
  const text = await page.evaluate(() => (globalThis as unknown as { mounted: number }).mounted)
  if (text !== 4) throw new Error(`effects ran ${text} times, not twice each`)
  await until('one connection of each component is left', 10_000, () => app.realtime.connections.size === 2)
  await app.realtime.channels.group({ tenantId: 1, channel: world.channel, message: 'hello', conversationId: 'c' })
  await page.waitForFunction(() => Array.from(document.querySelectorAll('p')).every(({ textContent }) => textContent !== ''))
  const shown = await page.$$eval('p', (all) => all.map(({ textContent }) => textContent))
  if (shown.join() !== 'hello,hello') throw new Error(`shown: ${shown.join()}`)
  await page.close()
  return `React ${project.version('react')}, StrictMode: a client for each effect, and one for all`
}

const checks: Record<string, () => Promise<string>> = {
  node20: inNode('20'), node22: inNode('22'), node24: inNode('24'), node26: inNode('26'), bun: inBun, deno: inDeno,
  jest: inJest, vitest: inVitest, jsdom: inJsdom, esbuild: byEsbuild, vite: byVite, webpack: byWebpack, react: inReact
}
const names = process.argv.slice(2)
let failed = 0
for (const [name, check] of Object.entries(checks)) {
  if (names.length > 0 && !names.includes(name)) continue
  try {
    console.log(`ok   ${(await check()).replace(/\s+/g, ' ')}`)
  } catch (err) {
    failed++
    console.log(`FAIL ${name}: ${(err as Error).message}`)
  }
}
await browser?.close()
await app.close()
process.exit(failed > 0 ? 1 : 0)
