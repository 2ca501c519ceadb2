import { Parser, type Result } from 'tap-parser'

export interface Results {
  passed: number
  failed: number
  /** A text for each failure, headed by the names that lead to it. */
  problems: string[]
}

interface Node {
  path: string[]
  ok: boolean
  /** Failed assertions, and tests left out, directly in this one. */
  problems: string[]
  children: Node[]
}

/**
 * Write a test file's TAP into `parser`; `finish` counts once its process has ended, `fault` says when it ended badly.
 * What counts as a test is a `t.test` with no other one inside, or a file without any.
 */
export function tapResults (file: string): { parser: Parser; finish (fault?: string): Results } {
  const parser = new Parser()
  const root = watch(parser, [file])
  return {
    parser,
    finish (fault) {
      const { ok, count } = parser.results ?? { ok: false, count: 0 }
      root.ok = ok
      // A process also ends badly because of failures that are already known.
      const problem = fault && (ok || count === 0) ? fault : count === 0 ? 'has no tests, or skips them all' : undefined
      if (problem) root.problems.push(`${file}\n${indent(problem)}`)
      return sum(root)
    }
  }
}

function watch (parser: Parser, path: string[]): Node {
  const node: Node = { path, ok: true, problems: [], children: [] }
  parser.on('child', (child: Parser) => node.children.push(watch(child, [...path, child.name])))
  parser.on('assert', (result: Result) => {
    if (result.skip || result.todo) {
      node.problems.push(`${title([...path, result.name])}\n${indent(result.skip ? 'was skipped' : 'is a todo')}`)
    } else if (!result.ok) {
      const closed = result.closingTestPoint ? node.children.at(-1) : undefined
      if (closed) closed.ok = false
      else node.problems.push(`${title([...path, result.name])}\n${indent(details(result))}`)
    }
  })
  return node
}

function sum (node: Node): Results {
  const inner = node.children.map(sum)
  const passed = inner.reduce((total, { passed }) => total + passed, 0)
  const failed = inner.reduce((total, { failed }) => total + failed, 0)
  const problems = [...node.problems, ...inner.flatMap(({ problems }) => problems)]
  const isSound = node.ok && problems.length === 0
  if (!node.ok && problems.length === 0) problems.push(`${title(node.path)}\n${indent('failed')}`)
  if (node.children.length === 0) return { passed: isSound ? 1 : 0, failed: isSound ? 0 : 1, problems }
  return { passed, failed: isSound ? failed : Math.max(1, failed + node.problems.length), problems }
}

function details ({ diag }: Result): string {
  const { at, source: _, stack, ...rest } = (diag ?? {}) as Record<string, unknown>
  const place = at as { fileName?: string; lineNumber?: number; columnNumber?: number } | undefined
  const lines = Object.entries(rest).map(([key, value]) =>
    typeof value === 'string' && value.includes('\n') ? `${key}:\n${indent(value)}` : `${key}: ${JSON.stringify(value)}`
  )
  if (place?.fileName) lines.unshift(`at ${place.fileName}:${place.lineNumber}:${place.columnNumber}`)
  if (typeof stack === 'string') lines.push(`stack:\n${indent(stack)}`)
  return lines.join('\n') || 'failed'
}

function title (path: string[]): string {
  return path.join(' › ')
}

function indent (text: string): string {
  return text.trimEnd().replace(/^/gm, '    ')
}
