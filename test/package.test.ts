import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import t, { type Test } from 'tap'
import ts from 'typescript'
import { startChild } from './child-process.js'
import { checkHost, example, HOST_URL, pages, ROOT } from './examples.js'
import { temporaryFolder } from './exit-hooks.js'

/** Packs fastify-realtime as `npm publish` does, installs that into an empty project, and uses it there. */

const run = promisify(execFile)
// What npm tells its scripts would lead an npm within them back to this repository.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(?!config_(cache|registry))|INIT_CWD|NODE_OPTIONS)/i.test(name)))
const folder = temporaryFolder('package')
const project = join(folder, 'project')
const installed = join(project, 'node_modules', 'fastify-realtime')
const inProject = async (command: string, args: string[], variables: object = {}): Promise<string> =>
  (await run(command, args, { cwd: project, env: { ...env, ...variables }, maxBuffer: 16 * 1024 * 1024 })).stdout

const modules = ['lib', 'plugins', 'migrations'].flatMap((name) => filesOf(join(ROOT, name)).map((file) => join(name, file.replace(/\.ts$/, ''))))
const clientModules = filesOf(join(ROOT, 'client/src')).map((file) => file.replace(/\.ts$/, ''))
/** Of the client, which is also a package of its own: one file of each kind, and its types. */
const clientBuilt = ['dist/cjs/package.json', ...['esm', 'cjs'].flatMap((kind) => [...['index', 'react/index'].flatMap((name) => [`dist/${kind}/${name}.js`, `dist/${kind}/${name}.js.map`]), ...clientModules.map((name) => `dist/${kind}/${name}.d.ts`)])]
const built = [...modules.flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`]), ...clientBuilt.map((name) => `client/${name}`)]

// Packing builds first; where that was done a moment ago, as in CI, it need not be done again.
await run('npm', ['pack', '--pack-destination', folder, `--ignore-scripts=${isBuilt()}`], { cwd: ROOT, env })
await run('npm', ['pack', '--pack-destination', folder, '--ignore-scripts'], { cwd: join(ROOT, 'client'), env })
const [tarball = '', clientTarball = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz')).sort().map((name) => join(folder, name))
mkdirSync(project)
writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }')
await inProject('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', 'fastify', 'react', tarball])

const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
  exports: Record<string, string | object>, dependencies: Record<string, string>, peerDependencies: Record<string, string>
}
const entries = Object.entries(manifest.exports).filter(([, target]) => typeof target === 'object').map(([path]) => path.replace('.', 'fastify-realtime'))
const files = filesOf(installed)

function isBuilt (): boolean {
  const timeOf = (file: string): number => statSync(join(ROOT, file), { throwIfNoEntry: false })?.mtimeMs ?? 0
  const sources = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'client/package.json', 'client/build.js', ...modules.map((name) => `${name}.ts`), ...clientModules.map((name) => `client/src/${name}.ts`)]
  return Math.min(...built.map(timeOf)) > Math.max(...sources.map(timeOf))
}

function filesOf (root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name).slice(root.length + 1)).sort()
}

t.test('The package contains the compiled sources, the pages, and nothing more', async (t) => {
  t.strictSame(files, ['CHANGELOG.md', 'LICENSE', 'package.json', ...Object.keys(pages), ...built].sort())
  // Only the client's files are minified. Their maps hold the sources, which are not beside them.
  for (const file of files.filter((file) => /\.[jt]s$/.test(file))) {
    const map = /^\/\/# sourceMappingURL=(.*)$/m.exec(readFileSync(join(installed, file), 'utf8'))?.[1]
    t.equal(map && join(dirname(file), map), file.startsWith('client/') && file.endsWith('.js') ? `${file}.map` : undefined)
    if (map) t.ok((JSON.parse(readFileSync(join(installed, dirname(file), map), 'utf8')) as { sourcesContent: string[] }).sourcesContent.every(Boolean))
  }
})

const lint = async (t: Test, pkgDir: string): Promise<void> => {
  const { messages, pkg } = await publint({ pkgDir, pack: false, strict: true })
  t.strictSame(messages.map((message) => formatMessage(message, pkg ?? {}, { color: false })), [])
}
t.test('publint reports nothing', async (t) => { await lint(t, installed) })

t.test('The client installs alone, without anything else, and runs as a module and as CommonJS', async (t) => {
  const page = join(folder, 'page')
  const own = join(page, 'node_modules', 'fastify-realtime-client')
  mkdirSync(page)
  writeFileSync(join(page, 'package.json'), '{ "private": true }')
  const { stdout } = await run('npm', ['install', '--offline', '--no-audit', '--no-fund', clientTarball], { cwd: page, env })
  t.match(stdout, /added 1 package/)
  t.strictSame(readdirSync(join(page, 'node_modules')).filter((name) => !name.startsWith('.')), ['fastify-realtime-client'])
  t.strictSame(filesOf(own), ['LICENSE', 'README.md', 'package.json', ...clientBuilt].sort())
  await lint(t, own)
  const names = 'Object.keys(client).filter((name) => name !== "__esModule")'
  const lines = await Promise.all([['-e', `const client = require("fastify-realtime-client"); console.log(JSON.stringify(${names}))`],
    ['--input-type=module', '-e', `import * as client from "fastify-realtime-client"; console.log(JSON.stringify(${names}))`]].map(async (args) =>
    (await run(process.execPath, args, { cwd: page, env })).stdout))
  for (const line of lines) t.strictSame((JSON.parse(line) as string[]).sort(), ['ClientError', 'WebSocketClient', 'createClient'])
  // What hosts import is the same code.
  for (const kind of ['esm', 'cjs']) {
    t.equal(readFileSync(join(own, `dist/${kind}/index.js`), 'utf8'), readFileSync(join(installed, `client/dist/${kind}/index.js`), 'utf8'))
  }
  const { outputFiles: [bundle] } = await build({
    stdin: { contents: 'export * from "fastify-realtime-client"', resolveDir: page }, bundle: true, minify: true, format: 'esm', target: 'es2020', write: false
  })
  // What is installed, and what a page's bundler makes of it.
  for (const contents of [readFileSync(join(own, 'dist/esm/index.js')), bundle?.contents ?? '']) {
    const size = gzipSync(contents, { level: 9 }).length
    t.ok(size > 0 && size <= 9.15 * 1024, `${size} bytes`)
  }
})

t.test('Each dependency is imported and explained, and nothing else is imported', async (t) => {
  const imported = new Set<string>()
  for (const file of files.filter((file) => /\.[jt]s$/.test(file))) {
    for (const [, name = ''] of readFileSync(join(installed, file), 'utf8').matchAll(/(?:from |import\()["']((?:@[\w-]+\/)?[\w-][\w.-]*)["'/]/g)) {
      imported.add(name)
      if (name === 'ws' && file.endsWith('.d.ts')) imported.add('@types/ws')
    }
  }
  t.strictSame([...imported].sort(), Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }).sort())
  const explained = /^## Dependencies[^\n]*\n([^]*)/m.exec(pages['docs/deployment.md'] ?? '')?.[1] ?? ''
  t.strictSame(Object.keys(manifest.dependencies).filter((name) => !explained.includes(`\`${name}\``)), [])
})

t.test('Every entry can be imported, and required', async (t) => {
  writeFileSync(join(project, 'entries.cjs'), `
    const names = (module) => Object.keys(module).filter((name) => name !== '__esModule')
    const check = async (entry) => [entry, names(require(entry)), names(await import(entry))]
    Promise.all(process.argv.slice(2).map(check)).then((found) => console.log(JSON.stringify(found)))
    if (require('fastify-realtime/package.json').name !== 'fastify-realtime') throw new Error('no package.json')
  `)
  const found = JSON.parse(await inProject(process.execPath, ['entries.cjs', ...entries])) as Array<[string, string[], string[]]>
  t.strictSame(found.map(([entry]) => entry), entries)
  for (const [entry, required, imported] of found) {
    t.ok(required.length > 0, `${entry} exports something`)
    t.strictSame(required, imported, entry)
  }
})

/** The same host for `require`: what is imported is required, and what awaits stands in a function. */
function toCommonJs (code: string): string {
  const imports = /^import (.+) from ('.+')$/gm
  const required = [...code.matchAll(imports)].map(([, names, from]) => `const ${names} = require(${from})`)
  return `${required.join('\n')}\nmain()\nasync function main () {${code.replace(imports, '')}}`
}

for (const [file, code] of [['host.mjs', example('host')], ['host.cjs', toCommonJs(example('host'))]] as const) {
  t.test(`The README’s host runs as ${file}`, async (t) => {
    writeFileSync(join(project, file), code)
    const host = await startChild(process.execPath, [file], { cwd: project, env: { PATH: process.env.PATH, DATABASE_URL: 'sqlite::memory:', PORT: '0' } })
    t.teardown(async () => { await host.stop(10_000) })
    const [url] = await host.waitFor(HOST_URL, 30_000)
    await checkHost(t, url)
  })
}

t.test('The command migrates, and prints the AsyncAPI document', async (t) => {
  const DATABASE_URL = 'sqlite:./data/app.db'
  t.match(await inProject('npx', ['--no', 'fastify-realtime', 'migrate'], { DATABASE_URL }), /^migrated: 001-initial, 002-events-by-status/)
  t.ok(readdirSync(join(project, 'data')).includes('app.db'))
  t.match(JSON.parse(await inProject('npx', ['--no', 'fastify-realtime', 'asyncapi'])), { asyncapi: /^3\./, channels: { socket: {} } })
})

t.test('The types hold for hosts, as modules and as CommonJS, and for pages', async (t) => {
  write('host.ts', example('host') + example('host-ids'))
  write('string-host.ts', `
    import Fastify from 'fastify'
    import { channels, presence, realtime, typing, type Id, type Identity, type RealtimeOptions } from 'fastify-realtime'
    import { createClient } from 'fastify-realtime/client'
    import type { Ack, ClientData, RestAnswer, ServerData } from 'fastify-realtime/schemas'
    export const id: Id = 'auth0|5'
    export const options: RealtimeOptions = {
      database: 'sqlite::memory:',
      ids: 'string',
      authenticate: (): Identity => ({ tenantId: 'acme', userId: 'auth0|5' }),
      authorize: ({ identity }) => identity.userId.startsWith('auth0|'),
      resolveUsers: (tenantId, ids) => new Map(ids.map((id) => [id, { name: tenantId.toUpperCase() + id.length }]))
    }
    // @ts-expect-error -- a number is no id here
    export const wrong: Identity = { tenantId: 1, userId: 'auth0|5' }
    const app = Fastify()
    await app.register(realtime, options)
    await app.register(typing, { participants: ({ tenantId }) => [tenantId.toLowerCase()] })
    for (const plugin of [presence, channels]) await app.register(plugin)
    app.realtime.events.on('online', ({ userId }) => userId.toUpperCase())
    await app.realtime.channels.direct({ tenantId: 'acme', recipientId: 'auth0|5', message: 'hi', conversationId: 'c' })
    // @ts-expect-error -- a number is no id here
    await app.realtime.channels.direct({ tenantId: 'acme', recipientId: 5, message: 'hi', conversationId: 'c' })
    const { next_cursor: next } = await app.realtime.presence.online('acme', { cursor: 'auth0|5' })
    next?.toUpperCase()
    ;(await app.realtime.presence.of('acme', ['auth0|5']))[0]?.user_id.toUpperCase()
    ;(await app.realtime.typing.in('acme', 'c'))[0]?.user_id.toUpperCase()
    await app.realtime.connections.closeUser('acme', 'auth0|5')
    export const message: ClientData<'message:direct'> = { recipientId: 'auth0|5', message: 'hi', conversationId: 'c' }
    export const sender = (data: ServerData<'message:direct'>): [string, number] => [data.senderId.trim(), data.messageId]
    export const ids = (ack: Ack<'notification:send'>): number[] => ack.messageIds
    export const page = (answer: RestAnswer<'GET /online-users', 200>): string | undefined => answer.data[0]?.user_id.trim()
    createClient({ baseUrl: '/' }).on('message:group', ({ userId }) => userId.toUpperCase())
    ${example('host-ids')}
  `)
  write('string-host.cts', `
    import suite = require('fastify-realtime')
    import client = require('fastify-realtime/client')
    export const id: suite.Id = 'auth0|5'
    client.createClient({ baseUrl: '/' }).on('message:group', ({ userId }) => userId.toUpperCase())
    ${example('host-ids')}
  `)
  write('cookies.ts', example('cookies'))
  write('testing.ts', example('testing'))
  write('schemas.ts', example('schemas'))
  write('events.ts', `import type { FastifyInstance } from 'fastify'\ndeclare const app: FastifyInstance\n${example('events')}`)
  write('server.ts', `
    import Fastify from 'fastify'
    import { channels, presence, realtime, type RealtimeOptions } from 'fastify-realtime'
    import typing from 'fastify-realtime/typing'
    import type { ClientData, RestBody } from 'fastify-realtime/schemas'
    import { buildApp, connect } from 'fastify-realtime/testing'

    ${example('host-events')}

    export const options: RealtimeOptions = { database: 'sqlite::memory:', authenticate: ({ token }) => token === 'x' ? { tenantId: 1, userId: 1 } : null }
    // @ts-expect-error -- no such option
    export const misspelt: RealtimeOptions = { ...options, keyPrefx: 'rt' }
    const app = Fastify()
    await app.register(realtime, options)
    await app.register(presence, { updatesPerMinute: 6 })
    // @ts-expect-error -- an option is a number
    await app.register(typing, { signsPerMinute: 'six' })
    await app.register(channels)

    export const status: string | undefined = (await app.realtime.presence.get(1, [2]))[0]?.status
    export const tell = (order: number) => { app.realtime.channels.tell({ tenantId: 1, channel: 'group.x', event: 'order:shipped', data: { order } }) }
    app.realtime.events.on('online', ({ tenantId, userId }) => tenantId + userId)
    // @ts-expect-error -- no such decorator
    app.realtime.presense
    // @ts-expect-error -- nothing like it happens
    app.realtime.events.on('onlin', () => {})
    // @ts-expect-error -- the host’s own events are typed
    await app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'order:shipped', data: { order: 'five' } })

    export const message: ClientData<'message:direct'> = { recipientId: 2, message: 'hi', conversationId: 'c' }
    // @ts-expect-error -- REST speaks snake_case
    export const body: RestBody<'POST /connect'> = { connectionId: 'tab' }
    const { app: tested } = await buildApp({ presence: { updatesPerMinute: 6 } })
    await (await connect(tested, { tenantId: 1, userId: 1 })).request('ping')
  `)
  write('common.cts', `
    import Fastify = require('fastify')
    import suite = require('fastify-realtime')
    export const start = async () => {
      const app = Fastify()
      await app.register(suite.realtime, { database: 'sqlite::memory:', authenticate: () => null })
      return app.realtime.connections.size
    }
  `)
  write('client.ts', `
    import { WebSocketClient } from 'fastify-realtime/client'
    declare const form: HTMLFormElement, input: HTMLInputElement
    declare const reload: (channel: string) => void, show: (userId: number, message: string) => void, showTyping: (userId: number, isTyping: boolean) => void
    declare const markPaid: (order: number) => void, markStored: (messageId: number) => void
    ${example('client')}
  `)
  write('page.ts', `
    import { WebSocketClient } from 'fastify-realtime/client'
    const client = new WebSocketClient<{ 'order:paid': { messageId: number, order: number } }>({ baseUrl: '/api/websocket' })
    client.on('order:paid', ({ order }) => order.toFixed())
    client.on('message:direct', ({ senderId, message }) => senderId + message.length)
    client.on('heartbeat', ({ unique_users: users }) => users.toFixed())
    export const sent: Promise<{ messageId: number }> = client.send('message:group', { channel: 'group.x', message: 'hi', conversationId: 'c' })
    // @ts-expect-error -- no such event
    client.on('order:shipped', () => {})
    // @ts-expect-error -- no such field
    client.on('message:group', ({ recipientId }) => recipientId)
    // @ts-expect-error -- no such option
    export const other = new WebSocketClient({ baseURL: '/' })
    export const timer: number = setTimeout(() => {}, 0) // a page’s own types, not those of Node
  `)
  const events = `
    interface Events { 'order:paid': { order: number }, 'board:moved': { card: string } }
    const client = createClient<Events>({ baseUrl: 'http://localhost/api/websocket', token: undefined, polling: undefined })
    client.on('order:paid', ({ order, channel, messageId }) => { const texts: [number, string, number | undefined] = [order, channel, messageId]; return texts })
    export const moved: Promise<{ timestamp: string }> = client.send('board:moved', { card: 'c1', channel: 'group.x' })
    export const sent: Promise<{ messageId: number }> = client.send('message:direct', { recipientId: 2, message: 'hi', conversationId: 'c' })
    export const stop = async (): Promise<void> => { (await client.watch([1])).stop() }
    // @ts-expect-error -- the channel is missing
    client.send('board:moved', { card: 'c1' }).catch(() => {})
    // @ts-expect-error -- an event of the host’s own is typed
    client.on('board:moved', ({ order }) => order)
    // @ts-expect-error -- no such event
    client.on('board:mooved', () => {})
  `
  write('alone.ts', `import { createClient } from 'fastify-realtime/client'\n${events}`)
  write('alone.cts', `import { createClient } from 'fastify-realtime/client'\n${events}`)
  write('string-ids.ts', `
    import { createClient, type Id } from 'fastify-realtime/client'
    declare module 'fastify-realtime/client' { interface Register { ids: 'string' } }
    export const id: Id = 'auth0|5'
    createClient({ baseUrl: '/' }).on('message:group', ({ userId }) => userId.toUpperCase())
  `)
  const bundler = { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler }
  const node = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext }
  t.strictSame(problems(['cookies.ts', 'testing.ts', 'schemas.ts', 'events.ts', 'server.ts', 'common.cts'], { ...node, types: ['node'] }), [], 'NodeNext')
  for (const file of ['host.ts', 'string-host.ts', 'string-host.cts']) t.strictSame(problems([file], { ...node, types: ['node'] }), [], `${file}: string ids`)
  t.strictSame(problems(['server.ts'], { ...bundler, types: ['node'] }), [], 'a bundler')
  t.strictSame(problems(['page.ts', 'client.ts'], { ...bundler, types: [], lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'] }), [], 'a page')
  const bare = { types: [], lib: ['lib.es2020.d.ts'] }
  t.strictSame(problems(['alone.ts', 'alone.cts'], { ...node, ...bare }), [], 'the client, without the types of any platform')
  t.strictSame(problems(['string-ids.ts'], { ...bundler, ...bare }), [], 'string ids')
  const { resolvedModule } = ts.resolveModuleName('fastify-realtime', join(project, 'server.ts'), { moduleResolution: ts.ModuleResolutionKind.Node10 }, ts.sys)
  t.ok(resolvedModule?.resolvedFileName.endsWith('dist/plugins/index.d.ts'), 'resolvers that know no exports find the main entry')
})

const write = (file: string, code: string): void => { writeFileSync(join(project, file), code) }

/** What strict TypeScript says of these files and of the package; not of what others declare. */
function problems (names: string[], options: ts.CompilerOptions): string[] {
  const program = ts.createProgram(names.map((name) => join(project, name)), {
    strict: true, exactOptionalPropertyTypes: true, noEmit: true, target: ts.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts'], typeRoots: [join(project, 'node_modules/@types')], ...options
  })
  const own = program.getSourceFiles().filter(({ fileName }) => !/node_modules\/(?!fastify-realtime\/)/.test(fileName))
  return [...program.getOptionsDiagnostics(), ...own.flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)])]
    .map(({ file, start, messageText }) => `${file?.fileName.slice(project.length)}:${start}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`)
}
