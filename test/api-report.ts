import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import ts from 'typescript'
import { ROOT } from './examples.js'

/**
 * What a host sees of the package: the declarations behind every export, and those that they refer to, without comments.
 * `node --import tsx test/api-report.ts` writes docs/api.txt again.
 */

export const REPORT = join(ROOT, 'docs/api.txt')
const ENTRIES = { 'fastify-realtime': 'plugins/index.ts', 'fastify-realtime/testing': 'plugins/testing.ts' }

export function apiReport (): string {
  const declarations = emitDeclarations()
  const program = ts.createProgram(Object.values(ENTRIES).map((file) => pathOf(file)), { ...OPTIONS, noLib: false }, hostOf(declarations))
  const checker = program.getTypeChecker()
  const isOwn = (node: ts.Node): boolean => declarations.has(node.getSourceFile().fileName)
  const resolve = (symbol: ts.Symbol): ts.Symbol => symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
  const found = new Map<ts.Symbol, string>()

  const add = (symbol: ts.Symbol): void => {
    const own = (symbol.declarations ?? []).filter((node) => isOwn(node) && !ts.isTypeParameterDeclaration(node) && !isMember(node))
    if (own.length === 0 || found.has(symbol)) return
    const nodes = own.map((node) => ts.isVariableDeclaration(node) ? node.parent.parent : node)
    found.set(symbol, nodes.map((node) => node.getText()
      .replace(/^(export |declare |default )+/, '').replaceAll(/ import\("[^"]+"\)\./g, ' ')).sort().join('\n'))
    for (const node of nodes) visit(node)
  }
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const symbol = checker.getSymbolAtLocation(node)
      if (symbol !== undefined) add(resolve(symbol))
    }
    ts.forEachChild(node, visit)
  }

  const sections = Object.entries(ENTRIES).map(([name, file]) => {
    const source = program.getSourceFile(pathOf(file))
    const module = source && checker.getSymbolAtLocation(source)
    if (module === undefined) throw new Error(`${file} has no exports`)
    const exported = checker.getExportsOfModule(module)
    for (const symbol of exported) add(resolve(symbol))
    return [`# ${name} exports`, ...exported.map((symbol) => symbol.name).sort()].join('\n')
  })
  return `${[...sections, '# declarations', ...[...found.values()].sort()].join('\n\n')}\n`
}

const OPTIONS: ts.CompilerOptions = {
  ...ts.readConfigFile(join(ROOT, 'tsconfig.json'), (path) => ts.sys.readFile(path)).config.compilerOptions as object,
  target: ts.ScriptTarget.ES2023,
  lib: ['lib.es2023.d.ts', 'lib.es2024.string.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  rootDir: ROOT,
  outDir: join(ROOT, '.api')
}

/** The path of a source's declarations, which exist in memory only. */
const pathOf = (file: string): string => join(ROOT, '.api', file.replace(/\.ts$/, '.d.ts'))

function emitDeclarations (): Map<string, string> {
  const program = ts.createProgram(Object.values(ENTRIES).map((file) => join(ROOT, file)), { ...OPTIONS, declaration: true, emitDeclarationOnly: true, removeComments: true })
  const files = new Map<string, string>()
  program.emit(undefined, (path, text) => { files.set(path, text) })
  return files
}

function hostOf (files: ReadonlyMap<string, string>): ts.CompilerHost {
  const host = ts.createCompilerHost(OPTIONS)
  const { fileExists, readFile, getSourceFile } = host
  return {
    ...host,
    fileExists: (path) => files.has(path) || fileExists.call(host, path),
    readFile: (path) => files.get(path) ?? readFile.call(host, path),
    getSourceFile: (path, target, ...more) => {
      const text = files.get(path)
      return text === undefined ? getSourceFile.call(host, path, target, ...more) : ts.createSourceFile(path, text, target)
    },
    directoryExists: (path) => path.startsWith(join(ROOT, '.api')) || ts.sys.directoryExists(path)
  }
}

/** Members are part of the declaration that holds them. */
const isMember = (node: ts.Node): boolean => !ts.isSourceFile(node.parent) && !ts.isModuleBlock(node.parent) && !ts.isVariableDeclaration(node)

if (process.argv[1]?.endsWith('api-report.ts') === true) writeFileSync(REPORT, apiReport())
