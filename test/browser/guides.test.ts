/// <reference lib="dom" />
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { createServer, type InlineConfig } from 'vite'
import { example, HOST_URL, ROOT } from '../examples.js'
import { temporaryFolder } from '../exit-hooks.js'
import { freePort } from '../free-port.js'
import { startExample } from '../run-snippet.js'
import { snippets } from '../snippets.js'
import { openBrowser, openPage } from './browser.js'

/* What the pages docs/react.md and docs/from-socket-io.md show, as their readers would run it. */

const alias = {
  'fastify-realtime-client/react': join(ROOT, 'client/src/react/index.ts'),
  'fastify-realtime-client': join(ROOT, 'client/src/index.ts')
}

/** Serves a folder as `npx vite` does; its address. */
async function serve (t: Test, root: string, config: InlineConfig): Promise<string> {
  const server = await createServer({ root, cacheDir: temporaryFolder('vite'), logLevel: 'error', resolve: { alias }, ...config })
  await server.listen()
  t.teardown(async () => { await server.close() })
  return server.resolvedUrls?.local[0] ?? ''
}

const browser = await openBrowser(t)
async function visit (t: Test, url: string, name: string): Promise<Page> {
  const context = await browser.newContext()
  // Before its server ends, which a page would log.
  t.teardown(async () => { await context.close() })
  const page = await openPage(t, context, name)
  page.setDefaultTimeout(30_000)
  await page.goto(url)
  return page
}

t.test('the chat room of the React page', async (t) => {
  const folder = join(ROOT, 'data', `react-page-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  const tsx = snippets().filter(({ page, language }) => page === 'docs/react.md' && language === 'tsx').map(({ code }) => code)
  const html = snippets().find(({ page, language }) => page === 'docs/react.md' && language === 'html')
  t.equal(tsx.length, 3)
  for (const [i, name] of ['main.tsx', 'Room.tsx', 'Board.tsx'].entries()) writeFileSync(join(folder, name), tsx[i] ?? '')
  writeFileSync(join(folder, 'types.ts'), example('react-types'))
  writeFileSync(join(folder, 'index.html'), html?.code ?? '')
  const config = JSON.parse(snippets().find(({ page, language }) => page === 'docs/react.md' && language === 'json')?.code ?? '') as { compilerOptions: object }
  // Of the repository, instead of installed packages.
  const paths = { 'fastify-realtime-client/react': ['../../client/src/react/index.ts'], 'fastify-realtime-client': ['../../client/src/index.ts'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ ...config, compilerOptions: { ...config.compilerOptions, paths } }))

  await t.test('has types that hold', async (t) => {
    const { stdout } = await promisify(execFile)(process.execPath, [resolve('node_modules/typescript/bin/tsc'), '-p', folder]).catch((err: { stdout: string }) => err)
    t.equal(stdout, '')
  })

  await t.test('shows two people each other, their typing and their messages', async (t) => {
    const port = await freePort()
    const child = await startExample(t, 'react-server', example('react-server').replace('port: 3000', `port: ${port}`).replace('sqlite:./chat.db', 'sqlite::memory:'))
    await child.waitFor(HOST_URL, 30_000)
    const configFile = join(folder, 'vite.config.js')
    writeFileSync(configFile, example('react-vite').replace(':3000', `:${port}`))
    const url = await serve(t, folder, { configFile, server: { port: 0, host: '127.0.0.1', hmr: false } })
    const [ann, ben] = [await visit(t, url, 'Ann'), await visit(t, `${url}?user=2 Ben`, 'Ben')]
    for (const page of [ann, ben]) for (const name of ['Ann', 'Ben']) await page.waitForSelector(`ul li:text-is("${name}: online")`)
    await ben.type('input', 'Hello')
    await ann.waitForSelector('p:text-is("Ben typing…")')
    await ben.press('input', 'Enter')
    await ann.waitForSelector('ol li:has(b:text-is("Ben")):has-text("Hello")')
    await ben.waitForSelector('ol li:has(b:text-is("You")):has-text("Hello")')
    t.equal(await ann.locator('ol li').count(), 1)
  })
})

t.test('a chat of Socket.IO, before and after', async (t) => {
  const versions = {
    before: { server: 'socket-io-before-server', page: 'socket-io-before-page', path: '/socket.io' },
    after: { server: 'socket-io-after-server', page: 'socket-io-after-page', path: '/api' }
  }
  for (const [version, names] of Object.entries(versions)) {
    await t.test(version, async (t) => {
      for (const part of ['server', 'page'] as const) {
        t.equal(example(names[part]), readFileSync(join(ROOT, `test/from-socket-io/${version}/${part}.js`), 'utf8'), `the ${part} is the one that the page shows`)
      }
      const child = await startExample(t, names.server)
      const [target = ''] = await child.waitFor(HOST_URL, 30_000)
      const root = await serve(t, join(ROOT, 'test/from-socket-io'), {
        configFile: false,
        server: { port: 0, host: '127.0.0.1', hmr: false, proxy: { [names.path]: { target, ws: true, changeOrigin: false } } }
      })
      const open = async (name: string): Promise<Page> => {
        const page = await visit(t, `${root}${version}/index.html?name=${name}`, name)
        await page.waitForSelector('#state:text-is("connected")')
        return page
      }
      const [ann, ben] = [await open('ann'), await open('ben')]
      for (const page of [ann, ben]) await page.waitForSelector('#members:text-is("ann,ben")')
      await ben.type('#input', 'Hello')
      await ann.waitForSelector('#typing:text-is("ben is typing")')
      await ben.press('#input', 'Enter')
      for (const page of [ann, ben]) await page.waitForSelector('#messages li:text-is("ben: Hello")')
      await ann.waitForSelector('#typing:text-is("")', { state: 'attached' })
      await ann.fill('#input', 'Hi Ben')
      await ann.press('#input', 'Enter')
      for (const page of [ann, ben]) {
        await page.waitForSelector('#messages li:text-is("ann: Hi Ben")')
        t.equal(await page.locator('#messages li').count(), 2)
      }
      await ben.close()
      await ann.waitForSelector('#members:text-is("ann")')
    })
  }
})
