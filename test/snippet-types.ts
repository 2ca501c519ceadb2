import { join } from 'node:path'
import ts from 'typescript'
import { ROOT } from './examples.js'
import type { Snippet } from './snippets.js'

/** Type-checks snippets, each a module of a host or of a page, with what their pages say is there. */

const FOLDER = join(ROOT, 'data/.snippets')

const entry = (file: string): string[] => [join(ROOT, file)]

const OPTIONS: ts.CompilerOptions = {
  strict: true,
  noUncheckedIndexedAccess: true,
  noEmit: true,
  skipLibCheck: true,
  allowImportingTsExtensions: true,
  target: ts.ScriptTarget.ES2023,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  moduleDetection: ts.ModuleDetectionKind.Force,
  paths: {
    'fastify-realtime': entry('plugins/index.ts'),
    'fastify-realtime/schemas': entry('plugins/schemas.ts'),
    'fastify-realtime/testing': entry('plugins/testing.ts'),
    'fastify-realtime/client': entry('client/src/index.ts'),
    'fastify-realtime-client': entry('client/src/index.ts')
  }
}
const HOST: ts.CompilerOptions = { ...OPTIONS, lib: ['lib.es2023.d.ts', 'lib.es2024.string.d.ts'], types: ['node'] }
const PAGE: ts.CompilerOptions = { ...OPTIONS, lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'], types: [] }

/** What a snippet of a host may use without declaring it. */
const GIVEN_TO_HOSTS = `
import type {} from '@fastify/session'
import type {} from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import type { Kysely } from 'kysely'
import type * as suite from 'fastify-realtime'

declare module 'fastify' {
  interface Session { user: { company: number, id: number } }
}
declare global {
  const app: FastifyInstance
  const database: string, redis: string | undefined
  const db: Kysely<{ orders: { id: number, shipped: number } }>
  const authenticate: suite.Authenticate, authorize: suite.Authorize, resolveUsers: suite.ResolveUsers
  const realtime: typeof suite.realtime, connections: typeof suite.connections, presence: typeof suite.presence
  const typing: typeof suite.typing, channels: typeof suite.channels, stats: typeof suite.stats
  const orders: Map<number, unknown>, members: Set<number>
  const countAgainstYourOwnLimit: (address: string) => void
  const friendsAmong: (tenantId: suite.Id, viewerId: suite.Id, userIds: suite.Id[]) => Promise<suite.Id[]>
}`

/** And one of a page. */
const GIVEN_TO_PAGES = `
import type * as suite from 'fastify-realtime-client'

declare global {
  const createClient: typeof suite.createClient, WebSocketClient: typeof suite.WebSocketClient
  const input: HTMLInputElement, form: HTMLFormElement
  const reload: (channel: string) => void, show: (userId: suite.Id, message: string) => void, showTyping: (userId: suite.Id, isTyping: boolean) => void
  const markPaid: (order: number) => void, markStored: (messageId: number) => void, move: (card: string, userId?: suite.Id) => void
}`

/** One program: those that may be checked together. */
interface Group { options: ts.CompilerOptions, files: Map<string, string>, snippets: Map<string, Snippet> }

const isOfPage = ({ code, page }: Snippet): boolean => page === 'docs/client.md' || (/createClient|WebSocketClient/.test(code) && !/fastify-realtime'/.test(code))
const hasStringIds = ({ code }: Snippet): boolean => code.includes("ids: 'string'")
/** It declares types that would change what others mean. */
const isAlone = ({ code }: Snippet): boolean => /interface Register|from '\.\//.test(code)

/** The complaints of the compiler about these snippets, and about those that they import as files beside them. */
export function complaintsAbout (checked: Array<Snippet & { besides?: Record<string, Snippet> }>): string[] {
  const groups = new Map<string, Group>()
  for (const [i, snippet] of checked.entries()) {
    const ofPage = isOfPage(snippet)
    const key = hasStringIds(snippet) ? 'string ids' : isAlone(snippet) ? `alone ${i}` : ofPage ? 'pages' : 'hosts'
    const group: Group = groups.get(key) ?? { options: ofPage ? PAGE : HOST, files: new Map(), snippets: new Map() }
    groups.set(key, group)
    const folder = join(FOLDER, String(i))
    group.files.set(join(FOLDER, 'given.ts'), ofPage ? GIVEN_TO_PAGES : GIVEN_TO_HOSTS)
    group.files.set(join(folder, 'snippet.ts'), snippet.code)
    group.snippets.set(join(folder, 'snippet.ts'), snippet)
    for (const [name, beside] of Object.entries(snippet.besides ?? {})) {
      group.files.set(join(folder, name), beside.code)
      group.snippets.set(join(folder, name), beside)
    }
    if (hasStringIds(snippet)) {
      group.files.set(join(FOLDER, 'register.ts'), "import 'fastify-realtime'\ndeclare module 'fastify-realtime' { interface Register { ids: 'string' } }")
    }
  }
  const parsed = new Map<string, ts.SourceFile | undefined>()
  return [...groups.values()].flatMap((group) => complaintsIn(group, parsed))
}

function complaintsIn ({ options, files, snippets }: Group, parsed: Map<string, ts.SourceFile | undefined>): string[] {
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, directoryExists, getSourceFile } = host
  const program = ts.createProgram([...files.keys()], options, {
    ...host,
    fileExists: (path) => files.has(path) || fileExists.call(host, path),
    readFile: (path) => files.get(path) ?? readFile.call(host, path),
    directoryExists: (path) => path.startsWith(FOLDER) || directoryExists?.call(host, path) === true,
    getSourceFile: (path, target, ...more) => {
      const text = files.get(path)
      if (text !== undefined) return ts.createSourceFile(path, text, target, true)
      const key = `${options === PAGE} ${path}`
      if (!parsed.has(key)) parsed.set(key, getSourceFile.call(host, path, target, ...more))
      return parsed.get(key)
    }
  })
  return [...snippets].flatMap(([path, { page, line }]) => {
    const source = program.getSourceFile(path)
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(({ start = 0, messageText }) => {
      const at = source?.getLineAndCharacterOfPosition(start).line ?? 0
      return `${page}:${line + 1 + at}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    })
  })
}

/** The declarations in a text, by name, as the compiler prints them without comments. */
export function declarationsIn (code: string): Map<string, string> {
  const printer = ts.createPrinter({ removeComments: true })
  const source = ts.createSourceFile('declarations.ts', code, ts.ScriptTarget.ES2023, true)
  const found = new Map<string, string>()
  for (const node of source.statements) {
    const isDeclaration = ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) || ts.isClassDeclaration(node) || ts.isFunctionDeclaration(node)
    if (!isDeclaration || node.name === undefined) continue
    const text = printer.printNode(ts.EmitHint.Unspecified, node, source).replace(/\s+/g, ' ')
    found.set(node.name.text, found.has(node.name.text) ? `${found.get(node.name.text)}\n${text}` : text)
  }
  return found
}

/** Whether a snippet is nothing but declarations. */
export const isDeclarations = ({ code }: Snippet): boolean =>
  ts.createSourceFile('snippet.ts', code, ts.ScriptTarget.ES2023, true).statements.every((node) =>
    ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) || ts.isClassDeclaration(node) || ts.isFunctionDeclaration(node))
