/** A value that a script or command takes. */
export type Argument = string | number

/**
 * A Lua script and the names of its arguments. The names are also the script's local variables, so that caller and script
 * cannot disagree about the order.
 */
export interface Script<Parameter extends string = string, Column extends string = string> {
  readonly lua: string
  /** Arguments of the call. */
  readonly parameters: readonly Parameter[]
  /** Arguments of each row, for a script that takes rows; see {@link tableScript}. */
  readonly columns: readonly Column[]
  /** The script without its prelude and the names of its arguments, see {@link sequenceScript}; absent for a script that takes any number of arguments. */
  readonly body?: string
}

/** The arguments of one call, or of one row. */
export type Named<Name extends string> = { readonly [name in Name]: Argument }

/** In the order of the script's names. */
export const inOrder = <Name extends string>(names: readonly Name[], values: Named<Name>): Argument[] => names.map((name) => values[name])

/** Position of the first named argument: before it are the offset of the clock and the limit of presence, see the roster's prelude. */
const FIRST = 3

function locals (names: readonly string[]): string {
  return names.length === 0 ? '' : `local ${names.join(', ')} = ${names.map((_, i) => `ARGV[${FIRST + i}]`).join(', ')}\n`
}

/** `more`: where the script takes further arguments of any number, the name of the variable with the position of the first. */
export function script<Parameter extends string> (
  { prelude = '', parameters, more }: { prelude?: string, parameters: readonly Parameter[], more?: string }, body: string
): Script<Parameter, never> {
  const position = more === undefined ? '' : `local ${more} = ${FIRST + parameters.length}\n`
  return { lua: `${prelude}${locals(parameters)}${position}${body}`, parameters, columns: [], ...more === undefined ? { body } : {} }
}

/**
 * A script that runs calls of these scripts one after the other. `KEYS` are those of the first call; keys of other tenants
 * follow. The arguments of each call are the script's name, the number of the key with its tenant, and its own arguments.
 * Returns the result of each call. A call that fails has its error there and does not end the others; if all fail, the
 * first error is that of the whole script.
 */
export function sequenceScript (prelude: string, parts: Record<string, Script>): Script<never, never> {
  const functions = Object.entries(parts).map(([name, { parameters, body = '' }]) => `
sizes.${name} = ${parameters.length}
function calls.${name}(${parameters.join(', ')})
${body}
end`)
  const lua = `${prelude}
local calls, sizes = {}, {}${functions.join('')}
local results, failed = {}, 0
local position = ${FIRST}
while ARGV[position] do
  local name = ARGV[position]
  base = KEYS[tonumber(ARGV[position + 1])]
  local ok, result = pcall(calls[name], unpack(ARGV, position + 2, position + 1 + sizes[name]))
  if not ok then
    failed = failed + 1
    -- The error of a command is a text here. If it begins with a code, such as OOM, that code tells whether Redis refuses to serve.
    if type(result) ~= 'table' then
      local code = string.match(tostring(result), '^(%u+) ')
      result = { err = (code and code ~= 'ERR') and result or 'ERR script: ' .. tostring(result) }
    end
  end
  results[#results + 1] = result
  position = position + 2 + sizes[name]
end
if failed == #results then return results[1] end
return results`
  return { lua, parameters: [], columns: [] }
}

/**
 * A script over the keys in `KEYS`, one for each tenant. After the parameters, each tenant has a number of rows and the rows
 * themselves. The body runs once for each tenant, with its key in `base`, its number of rows in `rows`, and `i`, the number
 * of the tenant; `row(n)` returns a row, and `COLUMNS` in the body is replaced by the names of its columns.
 */
export function tableScript<Parameter extends string, Column extends string = never> (
  { prelude, parameters, columns, setup = '', result }: {
    prelude: string, parameters: readonly Parameter[], columns: readonly Column[], setup?: string, result: string
  }, body: string
): Script<Parameter, Column> {
  const lua = `${prelude}${locals(parameters)}
local position = ${FIRST + parameters.length}
local function row(n) return unpack(ARGV, position + 1 + (n - 1) * ${columns.length}, position + n * ${columns.length}) end
${setup}
for i, key in ipairs(KEYS) do
  base = key
  local rows = tonumber(ARGV[position])
  ${body.replaceAll('COLUMNS', columns.join(', '))}
  position = position + 1 + rows * ${columns.length}
end
return ${result}`
  return { lua, parameters, columns }
}
