import { Ajv2019 } from 'ajv/dist/2019.js'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { Ajv, AnySchema, ErrorObject } from 'ajv'
import formats from 'ajv-formats'

/** A JSON Schema of an object: made by TypeBox 0.34, by `typebox` 1.x, or written by hand. */
export interface ObjectSchema { readonly type: 'object' }

/** Why a value is invalid: the path of the field, with dots, and the reason. */
export interface Problem { field: string, message: string }

/** A schema that is ready to be used. */
export interface CompiledSchema {
  /** Null where the value fits. */
  problem (value: unknown): Problem | null
  /** A copy of an object without fields that the schema does not declare. */
  clean (value: Record<string, unknown>): Record<string, unknown>
}

interface Schema {
  $schema?: unknown, $ref?: unknown
  properties?: Record<string, Schema>, patternProperties?: Record<string, Schema>, additionalProperties?: unknown
  items?: unknown, prefixItems?: unknown
  allOf?: Schema[], anyOf?: Schema[], oneOf?: Schema[]
}

/**
 * Compiles schemas of a host, written by hand or with any library. Throws an error that names the problem of a schema.
 *
 * Draft 2019-09 understands what drafts 6 and 7 do, and TypeBox of any version; 2020-12 has other tuples.
 */
export class SchemaCompiler {
  #common: Ajv | null = null
  #newest: Ajv | null = null

  compile (given: ObjectSchema): CompiledSchema {
    const { $schema, ...schema } = given as Schema
    const ajv = 'prefixItems' in schema || JSON.stringify(schema).includes('"prefixItems"') || String($schema).includes('2020-12')
      ? this.#newest ??= withFormats(new Ajv2020(OPTIONS))
      : this.#common ??= withFormats(new Ajv2019(OPTIONS))
    const check = ajv.compile(schema as AnySchema)
    // Two events may each have a schema of the same $id: TypeBox numbers its recursive ones.
    ajv.removeSchema(schema)
    const branches = new Map<Schema, ((value: unknown) => boolean) | null>()
    const fits = (branch: Schema, value: unknown): boolean => {
      if (!branches.has(branch)) branches.set(branch, compileBranch(ajv, branch))
      return branches.get(branch)?.(value) ?? false
    }
    return {
      problem: (value) => check(value) ? null : problemOf(check.errors?.[0]),
      clean: (value) => cleaned(schema, value, fits) as Record<string, unknown>
    }
  }
}

const OPTIONS = { strict: false, unicodeRegExp: false, logger: { log () {}, warn: refuseFormat, error: refuseFormat } } as const

const withFormats = <T extends Ajv>(ajv: T): T => {
  formats.default(ajv)
  return ajv
}

/** Null for a branch that refers to definitions outside of it. */
function compileBranch (ajv: Ajv, branch: Schema): ((value: unknown) => boolean) | null {
  try {
    const check = ajv.compile(branch as AnySchema)
    return (value) => check(value) === true
  } catch {
    return null
  }
}

/** Rejects an unknown format: Ajv only warns, and then accepts any value. */
function refuseFormat (text: unknown): void {
  if (String(text).includes('unknown format')) throw new Error(String(text).replace(/ ignored in schema.*/, ''))
}

function problemOf (error: ErrorObject | undefined): Problem {
  const { instancePath = '', message = 'is not valid', params = {} } = error ?? {}
  const missing = (params as { missingProperty?: string }).missingProperty
  const field = [instancePath.slice(1).replaceAll('/', '.'), missing ?? ''].filter((part) => part !== '').join('.')
  return { field, message: missing === undefined ? message : 'is missing' }
}

/** A copy without fields that the schema does not declare; the unchanged value if the declared fields cannot be determined. */
function cleaned (schema: Schema, value: unknown, fits: (branch: Schema, value: unknown) => boolean): unknown {
  const branches = schema.anyOf ?? schema.oneOf
  if (branches !== undefined && schema.properties === undefined) {
    const branch = branches.find((one) => fits(one, value))
    return branch === undefined ? value : cleaned(branch, value, fits)
  }
  if (Array.isArray(value)) {
    const of = (i: number): Schema | null => schemaOfItem(schema, i)
    return value.map((item, i) => { const one = of(i); return one === null ? item as unknown : cleaned(one, item, fits) })
  }
  const known = propertiesOf(schema)
  if (typeof value !== 'object' || value === null || known === null) return value
  const kept: Record<string, unknown> = {}
  for (const [name, field] of Object.entries(value)) {
    const one = Object.hasOwn(known.named, name) ? known.named[name] : known.others.find(([pattern]) => pattern.test(name))?.[1]
    if (one !== undefined) kept[name] = cleaned(one, field, fits)
  }
  return kept
}

function schemaOfItem ({ items, prefixItems }: Schema, i: number): Schema | null {
  const tuple = Array.isArray(prefixItems) ? prefixItems as Schema[] : Array.isArray(items) ? items as Schema[] : []
  const one = tuple[i] ?? items
  return typeof one === 'object' && one !== null && !Array.isArray(one) ? one : null
}

/** Null if any field is allowed. */
function propertiesOf (schema: Schema): { named: Record<string, Schema>, others: Array<[RegExp, Schema]> } | null {
  const { $ref, additionalProperties, properties, patternProperties = {}, allOf = [], anyOf, oneOf } = schema
  const isOpen = additionalProperties === true || (typeof additionalProperties === 'object' && additionalProperties !== null)
  if ($ref !== undefined || isOpen || anyOf !== undefined || oneOf !== undefined) return null
  const parts = allOf.map(propertiesOf)
  if (properties === undefined && parts.length === 0 && Object.keys(patternProperties).length === 0) return null
  const known = parts.filter((part) => part !== null)
  if (known.length < parts.length) return null
  return {
    named: Object.assign({}, ...known.map(({ named }) => named), properties) as Record<string, Schema>,
    others: [
      ...known.flatMap(({ others }) => others),
      ...Object.entries(patternProperties).map(([pattern, one]): [RegExp, Schema] => [new RegExp(pattern), one])
    ]
  }
}
