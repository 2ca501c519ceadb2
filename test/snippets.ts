import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pages, ROOT } from './examples.js'

/** A fenced block of code on a page. */
export interface Snippet {
  page: string
  line: number
  /** After the fence: `ts`, `json`, `sh`, … */
  language: string
  /** Of the comment `<!-- example: name -->` right above it. */
  name: string | null
  code: string
}

/** Where it is, as a test names it. */
export const placeOf = ({ page, line, name }: Snippet): string => `${page}:${line}${name === null ? '' : ` (${name})`}`

/** Every fenced block of README, docs/, CONTRIBUTING and SECURITY. */
export function snippets (): Snippet[] {
  const found: Snippet[] = []
  const all = { ...pages, ...Object.fromEntries(['CONTRIBUTING.md', 'SECURITY.md'].map((page) => [page, readFileSync(join(ROOT, page), 'utf8')])) }
  for (const [page, text] of Object.entries(all)) {
    const lines = text.split('\n')
    for (let at = 0; at < lines.length; at++) {
      const fence = /^( *)(`{3,}|~{3,})(.*)$/.exec(lines[at] ?? '')
      if (fence === null) continue
      const [, , marks = '', language = ''] = fence
      const end = lines.findIndex((line, i) => i > at && line.trim() === marks)
      if (end < 0) throw new Error(`${page}:${at + 1}: the block does not end`)
      found.push({
        page,
        line: at + 1,
        language: language.trim(),
        name: /^<!-- example: (.+) -->$/.exec(lines[at - 1] ?? '')?.[1] ?? null,
        code: lines.slice(at + 1, end).join('\n') + '\n'
      })
      at = end
    }
  }
  return found
}
