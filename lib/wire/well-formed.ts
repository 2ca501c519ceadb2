import { RealtimeError } from '../errors.js'

/** Maximum nesting of objects and arrays in data, which are the first level. */
const MAX_DEPTH = 16

/** Describes what is wrong with data from a client, beginning with the field's name; null if they are valid. */
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

/** Throws `RT_INVALID_DATA`, naming the field, if data of a request are not well-formed or nested too deep. */
export function assertWellFormed (data: unknown): void {
  const fault = illFormed(data)
  if (fault !== null) throw new RealtimeError('RT_INVALID_DATA', fault)
}

/**
 * The same for data parsed from `text`. In valid UTF-8 the refused characters occur only as escapes, so the data of most texts
 * need not be searched.
 */
export function illFormedFrame (text: string, { data, id }: { data?: unknown, id?: unknown }): RealtimeError | null {
  if (!text.includes('\\u') && !opensMany(text, '{') && !opensMany(text, '[')) return null
  const fault = illFormed(data) ?? illFormed(id, 'id')
  return fault === null ? null : new RealtimeError('RT_INVALID_DATA', fault)
}

/**
 * JSON of data from host code, with lone surrogates replaced as in an encoding to UTF-8: databases reject them in JSON.
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

/** Whether a text has so many brackets of one kind that it may be nested too deep, including the frame itself. */
function opensMany (text: string, bracket: string): boolean {
  let count = 0
  for (let at = text.indexOf(bracket); at >= 0; at = text.indexOf(bracket, at + 1)) {
    if (++count > MAX_DEPTH / 2) return true
  }
  return false
}
