import { Ajv } from 'ajv'
import type { TSchema } from '@sinclair/typebox'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'

/**
 * Validates requests with an Ajv of the suite's own: a host may validate its routes with another library, or give Fastify
 * other Ajv options.
 *
 * Types are not guessed, with one exception: a whole number may be written as plain decimal digits, because URLs know only
 * text.
 */
export function inputCompiler (): FastifySchemaCompiler<TSchema> {
  // The schemas are the suite's own: checking them against the meta-schema would cost every start 30 ms.
  const ajv = new Ajv({ useDefaults: true, removeAdditional: true, meta: false, validateSchema: false, strict: false, formats: { 'date-time': true } })
  return ({ schema }) => {
    const check = ajv.compile(schema)
    const read = digitsReader(schema)
    return (data: unknown) => {
      if (read !== null && isObject(data)) read(data)
      return check(data) ? true : { error: check.errors as never }
    }
  }
}

/** The refusal of an input, in the words that Fastify uses unless the host chose others for its routes. */
export class InputError extends Error {
  readonly statusCode = 400
  readonly code = 'FST_ERR_VALIDATION'

  constructor (errors: FastifySchemaValidationError[], part: string) {
    super(errors.map(({ instancePath, message }) => `${part}${instancePath} ${message}`).join(', '))
  }
}

const DIGITS = /^\d{1,16}$/

/** Turns decimal digits into numbers where the schema asks for integers; null where it does nowhere. */
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
