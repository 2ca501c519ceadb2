import { RealtimeError } from '../errors.js'

/** Levels of objects and arrays that data may have; the data itself is the first. */
const MAX_DEPTH = 16

/** What is wrong with data that a client sent, beginning with the field's name; null where nothing is. */
export function illFormed (data: unknown, path = '', depth = 1): string | null {
  if (typeof data === 'string') return illFormedText(data, path)
  if (typeof data !== 'object' || data === null) return null
  if (depth > MAX_DEPTH) return `${fieldOf(path)}: must not be nested deeper than ${MAX_DEPTH} levels`
  for (const [name, value] of Object.entries(data)) {
    if (!Array.isArray(data) && illFormedText(name, '') !== null) return `${fieldOf(path)}: must not have names that are no well-formed Unicode`
    const found = illFormed(value, path === '' ? name : `${path}.${name}`, depth + 1)
    if (found !== null) return found
  }
  return null
}

/** Throws `RT_INVALID_DATA` that names the field where data of a request are not well-formed, or nested too deep. */
export function assertWellFormed (data: unknown): void {
  const fault = illFormed(data)
  if (fault !== null) throw new RealtimeError('RT_INVALID_DATA', fault)
}

/**
 * The same for data parsed from `text`: valid UTF-8 in JSON holds what must be refused only as an escape, so most texts
 * need no look at their data.
 */
export function illFormedFrame (text: string, { data, id }: { data?: unknown, id?: unknown }): RealtimeError | null {
  if (!text.includes('\\u') && !opensMany(text, '{') && !opensMany(text, '[')) return null
  const fault = illFormed(data) ?? illFormed(id, 'id')
  return fault === null ? null : new RealtimeError('RT_INVALID_DATA', fault)
}

/**
 * JSON of data that host code sends, with half surrogate pairs replaced as an encoder to UTF-8 does: databases refuse them
 * in JSON.
 */
export function wellFormedJson (data: Record<string, unknown>): string {
  const text = JSON.stringify(data)
  return text.includes('\\ud') ? JSON.stringify(repaired(JSON.parse(text))) : text
}

function repaired (value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed()
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(repaired)
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name.toWellFormed(), repaired(part)]))
}

function illFormedText (text: string, path: string): string | null {
  if (text.includes('\0')) return `${fieldOf(path)}: must not contain NUL`
  return text.isWellFormed() ? null : `${fieldOf(path)}: must be well-formed Unicode`
}

const fieldOf = (path: string): string => path === '' ? 'data' : path

/** More than data within the limit could open by nesting alone, the frame itself included. */
function opensMany (text: string, bracket: string): boolean {
  let count = 0
  for (let at = text.indexOf(bracket); at >= 0; at = text.indexOf(bracket, at + 1)) {
    if (++count > MAX_DEPTH / 2) return true
  }
  return false
}
