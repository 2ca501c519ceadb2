import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Parser, fromFile } from '@asyncapi/parser'
import { Validator } from '@seriousme/openapi-schema-validator'
import openapiTS, { astToString } from 'openapi-typescript'
import t from 'tap'
import ts from 'typescript'
import { buildApp } from '../example-host/app.js'
import { readSettings } from '../example-host/settings.js'
import { clientEvents, rest, serverEvents } from '../plugins/schemas.js'
import { CLI } from './cli.js'
import { temporaryFolder } from './exit-hooks.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const run = promisify(execFile)

const app = await buildApp(readSettings({ DATABASE_URL: 'sqlite::memory:', LOG_LEVEL: 'silent' }))
t.teardown(async () => { await app.close() })
await app.ready()
const openapi = (await app.inject('/docs/json')).json()
const asyncapi = (await app.inject('/docs/asyncapi.json')).json()

/** The names of the protocol's tables, client → server and server → client. */
const CLIENT = ['auth', 'ping', 'subscribe', 'unsubscribe', 'message:direct', 'message:group', 'broadcast:message', 'notification:send',
  'message:delivered', 'user:typing', 'user:presence', 'presence:watch', 'presence:unwatch',
  'history', 'conversation:read', 'message:edit', 'message:delete']
const SERVER = ['message:direct', 'message:group', 'broadcast:message', 'notification:received', 'message:delivered', 'user:typing',
  'user:presence', 'user:online', 'user:offline', 'subscribed', 'unsubscribed', 'authenticated', 'pong', 'ack', 'error', 'token:expiring', 'close',
  'presence:count', 'presence:mode', 'channel:members', 'channel:count', 'message:edited', 'message:deleted', 'conversation:read', 'conversation:activity']

t.test('The AsyncAPI document is valid, and has every event of the protocol with the schema that validates it', async (t) => {
  const { document, diagnostics } = await new Parser().parse(JSON.stringify(asyncapi))
  t.strictSame(diagnostics.filter(({ code }) => code !== 'asyncapi-latest-version'), [])
  const messages = document?.allMessages().all() ?? []
  for (const event of CLIENT) {
    const found = document?.operations().filterByReceive().find((operation) => operation.messages().all()[0]?.name() === event)
    t.strictSame(asyncapi.components.messages[found?.messages().all()[0]?.id() ?? ''].payload.properties.data,
      JSON.parse(JSON.stringify(clientEvents[event as keyof typeof clientEvents].data)), event)
    t.strictSame(found?.reply()?.messages().all().map((message) => message.name()), ['ack', 'error'], `${event} is answered`)
  }
  for (const event of SERVER) {
    const found = messages.find((message) => message.name() === event && message.id().startsWith('server.'))
    t.strictSame(found?.payload()?.properties()?.event?.const(), event)
  }
  t.strictSame(Object.keys(clientEvents).sort(), [...CLIENT].sort())
  t.strictSame(Object.keys(serverEvents).sort(), [...SERVER].sort())
  t.equal(asyncapi.channels.socket.address, '/api/websocket/ws')
})

t.test('The command prints the same events, but for the host’s own', async (t) => {
  const { stdout } = await run(process.execPath, [...CLI, 'asyncapi'], { cwd: ROOT, maxBuffer: 16 * 1024 * 1024 })
  const file = join(temporaryFolder('asyncapi'), 'asyncapi.json')
  writeFileSync(file, stdout)
  const { document } = await fromFile(new Parser(), file).parse()
  t.ok(document)
  const byName = (messages: object) => Object.fromEntries(Object.entries(messages).sort(([a], [b]) => a < b ? -1 : 1))
  const { 'server.node.figures': own, ...ofSuite } = asyncapi.components.messages
  t.equal(own.name, 'node:figures')
  t.strictSame(byName(JSON.parse(stdout).components.messages), byName(ofSuite))
})

t.test('The OpenAPI document is valid 3.1, and every operation is complete', async (t) => {
  t.match(openapi.openapi, /^3\.1\./)
  t.match(await new Validator().validate(openapi), { valid: true })
  const operations = Object.entries<Record<string, any>>(openapi.paths).flatMap(([path, methods]) => // eslint-disable-line @typescript-eslint/no-explicit-any
    Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })))
  const names = openapi.tags.map(({ name }: { name: string }) => name)
  for (const { name, operation } of operations) {
    t.ok(operation.summary, `${name} has a summary`)
    t.ok(operation.tags?.length > 0 && operation.tags.every((tag: string) => names.includes(tag)), `${name} has a described tag`)
    const [scheme] = Object.keys((operation.security ?? openapi.security)[0] ?? {})
    t.equal(scheme, / \/(api\/websocket\/|operators\/|people$)/.test(name) ? 'bearer' : undefined, `${name} says whether it asks for a token`)
    for (const [status, { content }] of Object.entries<any>(operation.responses)) { // eslint-disable-line @typescript-eslint/no-explicit-any
      const { schema } = content['application/json'] ?? content['text/event-stream']
      t.ok(schema.properties ?? schema.additionalProperties ?? schema.type === 'string', `${name} types its ${status}`)
    }
  }
  const described = operations.map(({ name }) => name)
  for (const route of Object.keys(rest)) t.ok(described.includes(route.replace(' ', ' /api/websocket').replace(/:(\w+)/, '{$1}')), route)
})

t.test('The types generated from the OpenAPI document compile, and say what the routes do', async (t) => {
  const folder = join(temporaryFolder('openapi'), 'types')
  mkdirSync(folder)
  writeFileSync(join(folder, 'api.ts'), astToString(await openapiTS(openapi)))
  writeFileSync(join(folder, 'client.ts'), `
    import type { paths } from './api.js'
    type Operation = paths['/api/websocket/messages/direct']['post']
    export const body: Operation['requestBody']['content']['application/json'] = { recipient_id: 2, message: 'x', conversation_id: 'c' }
    export const idOf = (answer: Operation['responses'][202]['content']['application/json']): number => answer.data.message_id
    export const query: paths['/api/websocket/events']['get']['parameters']['query'] = { channel: 'group.x' }
    // @ts-expect-error -- the status is one of four
    export const status: paths['/api/websocket/presence/update']['post']['requestBody']['content']['application/json'] = { status: 'asleep' }
  `)
  const program = ts.createProgram([join(folder, 'client.ts')], {
    strict: true, noEmit: true, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022, types: [], skipLibCheck: true
  })
  t.strictSame(ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')), [])
})
