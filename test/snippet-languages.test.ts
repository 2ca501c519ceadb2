import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { createConnection } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { buildApp } from '../example-host/app.js'
import { readSettings } from '../example-host/settings.js'
import { channels, migrate, openDatabase, realtime } from '../plugins/index.js'
import { buildApp as buildTestApp, connect, identityOf, TestClient } from '../plugins/testing.js'
import { CLI } from './cli.js'
import { ROOT } from './examples.js'
import { temporaryFolder } from './exit-hooks.js'
import { createDatabase } from './servers.js'
import { placeOf, snippets } from './snippets.js'

/** The code blocks of the documents that are not TypeScript: each is executed, or checked as far as its tool is here. */

const run = promisify(execFile)
const all = snippets()
const inLanguage = (language: string) => all.filter((snippet) => snippet.language === language)

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string>, devDependencies: Record<string, string> }
const PACKAGES = ['fastify', 'fastify-realtime', 'fastify-realtime-client']

t.test('every snippet is in a language that a test runs', (t) => {
  const known = ['ts', 'tsx', 'js', 'html', 'json', 'sh', 'http', 'console', 'sql', 'promql', 'nginx', 'caddy', 'yaml', 'text']
  for (const snippet of all) t.ok(known.includes(snippet.language), `${placeOf(snippet)} is ${snippet.language || 'in no language'}`)
  t.end()
})

async function exampleHost (t: Test): Promise<{ app: FastifyInstance, token: string }> {
  const app = await buildApp(readSettings({ DATABASE_URL: 'sqlite::memory:', LOG_LEVEL: 'silent', SOCKET_ALLOWED_ORIGINS: '' }))
  t.teardown(async () => { await app.close() })
  const { token } = (await app.inject({ method: 'POST', url: '/login', payload: { userId: 1, clubId: 1, name: 'Ann' } })).json<{ token: string }>()
  return { app, token }
}

const DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
/** Fields whose values differ from run to run. */
const VARIES = /^(epoch|connectionId|message_?id|message_?ids|messageId|position|version)$/

/** The first difference between what a page shows and what came, but for values that vary; null where there is none. */
function difference (shown: unknown, found: unknown, path = ''): string | null {
  if (typeof shown !== typeof found || Array.isArray(shown) !== Array.isArray(found) || (shown === null) !== (found === null)) {
    return `${path}: ${JSON.stringify(shown)} is shown, ${JSON.stringify(found)} came`
  }
  if (typeof shown === 'object' && shown !== null) {
    const [expected, actual] = [shown as Record<string, unknown>, found as Record<string, unknown>]
    if (Object.keys(expected).sort().join() !== Object.keys(actual).sort().join()) return `${path}: ${Object.keys(expected).join()} are shown, ${Object.keys(actual).join()} came`
    for (const [name, value] of Object.entries(expected)) {
      const found = difference(value, actual[name], `${path}/${name}`)
      if (found !== null) return found
    }
    return null
  }
  if (VARIES.test(path.split('/').at(-1) ?? '')) return null
  if (typeof shown === 'string' && DATE.test(shown)) return DATE.test(String(found)) ? null : `${path}: a time is shown, ${JSON.stringify(found)} came`
  return shown === found ? null : `${path}: ${JSON.stringify(shown)} is shown, ${JSON.stringify(found)} came`
}

/** A message of HTTP: its first line, its headers, and its body. */
function readMessage (code: string): { first: string, headers: Record<string, string>, body: string } {
  const [head = '', ...body] = code.split('\n\n')
  const [first = '', ...headers] = head.trim().split('\n')
  return { first, body: body.join('\n\n').trim(), headers: Object.fromEntries(headers.map((line) => line.split(/: */, 2) as [string, string])) }
}

t.test('the requests of the documents get the responses that they show', async (t) => {
  const { app, token } = await exampleHost(t)
  const blocks = inLanguage('http')
  t.ok(blocks.length > 0)
  for (let i = 0; i < blocks.length; i += 2) {
    const [request, response] = [blocks[i], blocks[i + 1]]
    if (request === undefined || response === undefined) throw new Error('a request without a response')
    const { first, headers, body } = readMessage(request.code)
    const [method, url] = first.split(' ') as ['GET' | 'POST', string]
    const found = await app.inject({ method, url, headers: { ...headers, authorization: `Bearer ${token}` }, ...body === '' ? {} : { payload: body } })
    const shown = readMessage(response.code)
    t.equal(found.statusCode, Number(shown.first.split(' ')[1]), placeOf(response))
    t.equal(difference(JSON.parse(shown.body), found.json()), null, placeOf(response))
  }
})

t.test('the sessions of the documents go as they show', async (t) => {
  const sessions = inLanguage('console').filter(({ code }) => code.includes('wscat'))
  t.ok(sessions.length > 0)
  for (const session of sessions) {
    const { app, token } = await exampleHost(t)
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const client = new TestClient(new WebSocket(`ws://127.0.0.1:${port}/api/websocket/ws`, ['bearer', token]))
    await new Promise((resolve) => { client.socket.once('open', resolve) })
    t.match(session.code, /localhost:3000\/login/)
    for (const line of session.code.split('\n')) {
      if (line.startsWith('> ')) client.socket.send(line.slice(2))
      if (!line.startsWith('< ')) continue
      const shown = JSON.parse(line.slice(2)) as { event: string }
      t.equal(difference(shown, await client.take(shown.event, ({ event }) => event === shown.event)), null, `${placeOf(session)} ${shown.event}`)
    }
    client.socket.terminate()
  }
})

t.test('the sessions with curl go as they show', async (t) => {
  const sessions = inLanguage('console').filter(({ code }) => !code.includes('wscat'))
  t.ok(sessions.length > 1)
  for (const session of sessions) {
    const { app } = await exampleHost(t)
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    // A line that ends with a backslash continues in the next.
    const lines = session.code.replaceAll('\\\n', ' ').replaceAll('localhost:3000', `127.0.0.1:${port}`).trimEnd().split('\n')
    const script = lines.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2)).join('\n')
    const { stdout } = await run('bash', ['-c', `${script}\ntrue`])
    const shown = lines.filter((line) => !line.startsWith('$ ') && line !== '')
    const found = stdout.replace(/\}(?=event: )/g, '}\n').split('\n').filter((line) => line !== '')
    t.equal(found.length, shown.length, `${placeOf(session)}: ${stdout}`)
    for (const [i, line] of shown.entries()) {
      const json = /^(?:data: )?(\{.*)$/.exec(line)?.[1]
      if (json === undefined) t.equal(found[i]?.replace(/^id: .*/, 'id'), line.replace(/^id: .*/, 'id'), placeOf(session))
      else t.equal(difference(JSON.parse(json), JSON.parse(found[i]?.replace(/^data: /, '') ?? '')), null, placeOf(session))
    }
  }
})

/** Runs the package's command on a database of its own. */
async function suiteCommand (args: string[]): Promise<void> {
  const env = { PATH: process.env.PATH, DATABASE_URL: `sqlite:${join(temporaryFolder('snippet'), 'app.db')}` }
  const command = async (args: string[]): Promise<unknown> => await run(process.execPath, [...CLI, ...args], { cwd: ROOT, env, maxBuffer: 16 * 1024 * 1024 })
  if (args[0] !== 'asyncapi' && args[0] !== 'migrate') await command(['migrate'])
  await command(args)
}

/** Null where a command of the documents can work, else what is wrong with it. */
async function problemOf (command: string): Promise<string | null> {
  const [program, ...args] = command.replace(/ >.*$/, '').split(' ').filter((word) => word !== '')
  if (program === 'export') return null
  if (program === 'npm') {
    const [action = '', ...rest] = args
    if (['ci', 'init', 'pkg'].includes(action)) return null
    if (action === 'install') return rest.find((name) => name !== '--save-dev' && !PACKAGES.includes(name) && !(name in manifest.devDependencies)) ?? null
    const script = action === 'run' ? rest[0] ?? '' : action
    if (!(script in manifest.scripts)) return `no script ${script}`
    return rest.filter((word) => /\.ts$/.test(word)).find((file) => !existsSync(join(ROOT, file))) ?? null
  }
  if (program === 'npx' && args[0] === 'fastify-realtime') return await suiteCommand(args.slice(1)).then(() => null, String)
  if (program === 'npx' && args[0] !== undefined && args[0] in manifest.devDependencies) return null
  return 'nothing runs it'
}

t.test('the commands of the documents work', async (t) => {
  const blocks = inLanguage('sh')
  t.ok(blocks.length > 0)
  for (const block of blocks) {
    for (const line of block.code.split('\n').map((line) => line.replace(/\s+#.*$/, '').trim()).filter((line) => line !== '')) {
      for (const command of line.split('&&')) t.equal(await problemOf(command.trim()), null, `${placeOf(block)}: ${command}`)
    }
  }
})

t.test('the documented rights suffice: one user migrates, the other serves and runs the other SQL of the pages', async (t) => {
  const snippets = inLanguage('sql')
  const grants = snippets.find(({ code }) => code.includes('GRANT'))
  if (grants === undefined) throw new Error('a snippet in SQL with the rights of the database user is expected')
  const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
  const { pathname, hostname, port } = new URL(url)
  const serial = Math.random().toString(36).slice(2, 8)
  const admin = await createConnection(process.env.DATABASE_URL ?? '')
  const users = ['app', 'migrations']
  t.teardown(async () => {
    for (const user of users) await admin.query(`drop user if exists ${user}_${serial}`)
    await admin.end()
    await drop()
  })
  const mine = grants.code.replaceAll('shop.', `\`${pathname.slice(1)}\`.`).replace(/\b(USER|TO) (app|migrations)\b/g, `$1 $2_${serial}`)
  for (const statement of mine.split(';').map((text) => text.trim()).filter((text) => text !== '')) await admin.query(statement)
  const urlOf = (user: string): string => `mysql://${user}_${serial}:password@${hostname}:${port}${pathname}`
  const opened = openDatabase(urlOf('migrations'))
  t.ok((await migrate(opened.db)).length > 0)
  await opened.close()
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(realtime, { database: urlOf('app'), migrate: false, authenticate: ({ token }) => identityOf(token) })
  await app.register(channels)
  t.match(await app.realtime.channels.broadcast({ tenantId: 1, message: 'hi' }), { messageId: Number })
  const serving = await createConnection(urlOf('app'))
  for (const { code } of snippets.filter((snippet) => snippet !== grants)) {
    for (const statement of code.split(';').map((text) => text.trim()).filter((text) => text !== '')) await t.resolves(serving.query(statement), statement)
  }
  await t.rejects(serving.query('create table not_allowed (id int)'), { code: 'ER_TABLEACCESS_DENIED_ERROR' })
  await serving.end()
})

t.test('alerts and the dashboard ask for metrics that exist', async (t) => {
  const { app } = await buildTestApp({ stats: { metrics: '/metrics' } })
  t.teardown(async () => { await app.close() })
  await connect(app, { tenantId: 1, userId: 1 })
  const { body } = await app.inject('/metrics')
  const served = new Set([...body.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name))
  const dashboard = readFileSync(join(ROOT, 'docs/dashboards/realtime.json'), 'utf8')
  const asked = [...inLanguage('promql').map(({ code }) => code), ...[...dashboard.matchAll(/"expr": (".*")/g)].map(([, text = '']) => JSON.parse(text) as string)]
  t.ok(asked.length > 10)
  for (const text of asked) {
    for (const [name] of text.matchAll(/realtime_\w+/g)) t.ok(served.has(name.replace(/_(bucket|sum|count)$/, '')), name)
  }
  const documented = new Set([...readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8').matchAll(/^\| `(realtime_\w+)`/gm)].map(([, name]) => name))
  t.strictSame([...documented].sort(), [...served].filter((name) => name?.startsWith('realtime_')).sort(), 'every metric is documented, and no other')
})

/** Whether a tool is installed. */
const isHere = async (tool: string): Promise<boolean> => await run('which', [tool]).then(() => true, () => false)

function assertBraces (t: Test, code: string, place: string): void {
  let depth = 0
  for (const character of code) {
    if (character === '{') depth++
    if (character === '}') depth--
    if (depth < 0) break
  }
  t.equal(depth, 0, `${place}: its braces match`)
}

t.test('configurations of proxies are valid, and forward the prefix', async (t) => {
  for (const snippet of inLanguage('nginx')) {
    t.match(snippet.code, /location \/api\/websocket\//, placeOf(snippet))
    assertBraces(t, snippet.code, placeOf(snippet))
    for (const line of snippet.code.split('\n').filter((line) => line.trim() !== '')) t.match(line, /[;{}]$/, `${placeOf(snippet)}: ${line}`)
    if (!await isHere('nginx')) continue
    const folder = temporaryFolder('nginx')
    const file = join(folder, 'nginx.conf')
    writeFileSync(file, `pid ${folder}/pid;\nevents {}\nhttp {\n${snippet.code}}\n`)
    await t.resolves(run('nginx', ['-t', '-c', file, '-p', folder]), placeOf(snippet))
  }
  for (const snippet of inLanguage('caddy')) {
    t.match(snippet.code, /reverse_proxy \/api\/websocket\/\*/, placeOf(snippet))
    assertBraces(t, snippet.code, placeOf(snippet))
    if (!await isHere('caddy')) continue
    const file = join(temporaryFolder('caddy'), 'Caddyfile')
    writeFileSync(file, snippet.code)
    await t.resolves(run('caddy', ['validate', '--adapter', 'caddyfile', '--config', file]), placeOf(snippet))
  }
  for (const snippet of inLanguage('yaml')) {
    t.match(snippet.code, /PathPrefix\(`\/api\/websocket`\)/, placeOf(snippet))
    for (const line of snippet.code.split('\n').filter((line) => line.trim() !== '')) {
      t.match(line, /^( {2})*(- )?[A-Za-z]+:( ["\w].*)?$/, `${placeOf(snippet)}: ${line}`)
    }
  }
})
