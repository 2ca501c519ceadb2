import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readCoreOptions } from '../lib/settings.js'
import { CloseCode } from '../lib/wire/close-codes.js'
import { ConnectionSettings } from '../plugins/connections/options.js'
import { clientEvents, rest, serverEvents } from '../plugins/schemas.js'
import { pages, ROOT } from './examples.js'

/** What the documents list is what the code has. */

const page = (name: string): string => pages[name] ?? ''
const api = readFileSync(join(ROOT, 'docs/api.txt'), 'utf8')

/** The first cells of a page's tables, without back ticks. */
const rows = (text: string): string[][] => [...text.matchAll(/^\| (.+) \|$/gm)].map(([, row = '']) => row.split(/(?<!\\) \| /).map((cell) => cell.trim()))
const codesIn = (cell = ''): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code)

t.test('the protocol page lists every event, and no other', (t) => {
  const [, client = '', server = ''] = /## Client to server([^]*?)## Server to client([^]*?)## Resuming/.exec(page('docs/protocol.md')) ?? []
  const listed = (text: string): string[] => [...new Set(rows(text).flatMap(([first]) => codesIn(first)))].sort()
  t.strictSame(listed(client), Object.keys(clientEvents).sort())
  t.strictSame(listed(server), Object.keys(serverEvents).sort())
  for (const [event, schema] of Object.entries(clientEvents)) {
    const [row] = rows(client).filter(([first]) => codesIn(first).includes(event))
    for (const field of Object.keys(schema.data.properties)) {
      if (field !== 'dedupeId' && event !== 'subscribe') t.ok(row?.[1]?.includes(field), `${event}: ${field}`)
    }
  }
  t.end()
})

t.test('the REST page lists every route with every field, and no other', (t) => {
  const listed = rows(page('docs/rest.md')).filter(([first]) => /^`(GET|POST|PUT|PATCH|DELETE) /.test(first ?? ''))
  const known = { ...rest, 'GET /ws': {} }
  t.strictSame(listed.map(([first]) => codesIn(first)[0]).sort(), Object.keys(known).sort())
  for (const [first, input = ''] of listed) {
    const route = known[codesIn(first)[0] as keyof typeof known] as { body?: { properties: object }, querystring?: { properties: object } }
    for (const field of Object.keys({ ...route.body?.properties, ...route.querystring?.properties })) t.ok(input.includes(field), `${first}: ${field}`)
  }
  t.end()
})

t.test('the host API page lists every option with its default', (t) => {
  const text = page('docs/host-api.md')
  const names = [...api.matchAll(/^const (?:\w+Settings|TypingNumbers): TObject<\{([^]*?)^\}>/gm)].flatMap(([, body = '']) => [...body.matchAll(/^ {4}(\w+):/gm)].map(([, name = '']) => name))
  const functions = [...api.matchAll(/^interface (?:RealtimeOptions|ChannelsOptions|TypingOptions) extends [^{]*\{([^]*?)^\}/gm)].flatMap(([, body = '']) => [...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, name = '']) => name))
  t.ok(names.length > 30 && functions.length > 8, 'the report is read')
  const listed = new Map(rows(text).flatMap((cells) => cells.flatMap((cell, i) => i < 2 && /^`\w+`$/.test(cell) && cells.length > 2 ? [[codesIn(cell)[0] ?? '', cells[i + 1] ?? ''] as const] : [])))
  for (const name of [...names, ...functions]) t.ok(listed.has(name), `option ${name}`)
  const core = readCoreOptions({ database: '', authenticate: () => null })
  const connections = Object.fromEntries(Object.entries(ConnectionSettings.properties).map(([name, { default: value }]) => [name, value as unknown]))
  for (const [name, value] of Object.entries({ ...core, ...connections })) {
    const shown = (listed.get(name) ?? '').replace(/ ms$/, '').replace(/^`(.*)`$/, '$1')
    t.equal(shown, Array.isArray(value) ? JSON.stringify(value) : String(value), `the default of ${name}`)
  }
  t.end()
})

t.test('the documents name every export of the package', (t) => {
  const sections = { 'fastify-realtime': page('docs/host-api.md') + page('docs/custom-events.md'), 'fastify-realtime/testing': page('docs/testing.md') + page('docs/host-api.md') }
  for (const [entry, text] of Object.entries(sections)) {
    const [, names = ''] = new RegExp(`^# ${entry} exports\\n([^#]*)`, 'm').exec(api) ?? []
    const exports = names.trim().split('\n')
    t.ok(exports.length > 5)
    for (const name of exports) t.ok(new RegExp(`\\b${name}\\b`).test(text), `${entry} exports ${name}`)
  }
  t.end()
})

t.test('the host API page names every close code and every lifecycle event', (t) => {
  const text = page('docs/host-api.md')
  for (const [name, code] of Object.entries(CloseCode)) t.ok(rows(text).some((cells) => cells[0] === `\`${name}\`` && cells[1] === String(code)), name)
  const [, body = ''] = /^interface LifecycleEvents \{([^]*?)^\}/m.exec(api) ?? []
  const events = [...body.matchAll(/^ {4}(\w+): \[/gm)].map(([, name = '']) => name)
  t.ok(events.length > 10)
  const [, lifecycle = ''] = /## Lifecycle events([^]*?)\n## /.exec(text) ?? []
  t.strictSame(rows(lifecycle).flatMap(([first]) => codesIn(first)).sort(), events.sort())
  t.end()
})

t.test('the architecture page names files that exist, and draws the rooms in the order that is checked', async (t) => {
  const text = page('docs/architecture.md')
  for (const [, file = ''] of text.matchAll(/`((?:lib|plugins|client|test|migrations|example-host)\/[\w./-]+)`/g)) t.ok(existsSync(join(ROOT, file)), file)
  const { rooms } = await import(new URL('../eslint.config.js', import.meta.url).href) as { rooms: readonly string[] }
  const [, drawing = ''] = /```text\n([^]*?)```/.exec(text) ?? []
  const drawn = [...drawing.matchAll(/^ *(?:lib\/|│) +([a-z-]+)(?:\/| {2,})/gm)].map(([, room = '']) => room).filter((room) => rooms.includes(room))
  t.strictSame(drawn, [...rooms].reverse().filter((room) => room !== 'testing'))
})

t.test('the README is at most 200 lines', (t) => {
  t.ok(page('README.md').split('\n').length <= 200)
  t.end()
})
