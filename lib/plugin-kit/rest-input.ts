import { Ajv } from 'ajv'
import type { TSchema } from '@sinclair/typebox'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'

/**
 * Validates requests with its own Ajv: a host may validate its routes with another library, or with other Ajv options.
 *
 * Types are not coerced, with one exception: an integer may be given as decimal digits, because URLs contain only text.
 */
export function inputCompiler (): FastifySchemaCompiler<TSchema> {
  // Checking these schemas against the meta-schema would cost 30 ms per start.
  const ajv = new Ajv({
    useDefaults: true, removeAdditional: true, meta: false, validateSchema: false, strict: false, formats: { 'date-time': true },
    // Lengths count UTF-16 units, as in frames. Ajv warns that this is not its default.
    unicode: false, logger: false
  })
  return ({ schema }) => {
    const check = ajv.compile(schema)
    const read = digitsReader(schema)
    return (data: unknown) => {
      if (read !== null && isObject(data)) read(data)
      return check(data) ? true : { error: check.errors as never }
    }
  }
}

/** A validation error with Fastify's default message. */
export class InputError extends Error {
  readonly statusCode = 400
  readonly code = 'FST_ERR_VALIDATION'

  constructor (errors: FastifySchemaValidationError[], part: string) {
    super(errors.map(({ instancePath, message }) => `${part}${instancePath} ${message}`).join(', '))
  }
}

const DIGITS = /^\d{1,16}$/

/** Converts decimal digits to numbers where the schema has integers; null if it has none. */
function digitsReader ({ properties = {} }: TSchema): ((data: Record<string, unknown>) => void) | null {
  const ofType = (type: (schema: TSchema) => boolean): string[] =>
    Object.entries(properties as Record<string, TSchema>).filter(([, schema]) => type(schema)).map(([name]) => name)
  const integers = ofType(({ type }) => type === 'integer')
  const lists = ofType(({ type, items }) => type === 'array' && (items as TSchema).type === 'integer')
  if (integers.length === 0 && lists.length === 0) return null
  return (data) => {
    for (const name of integers) if (typeof data[name] === 'string') data[name] = numberOf(data[name])
    for (const name of lists) if (Array.isArray(data[name])) data[name] = data[name].map(numberOf)
  }
}

const numberOf = (value: unknown): unknown => typeof value === 'string' && DIGITS.test(value) ? Number(value) : value

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null
