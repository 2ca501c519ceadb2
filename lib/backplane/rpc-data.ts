import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { RealtimeError } from '../errors.js'

/** Data from another node, which may run another version. Throws `RT_INVALID_DATA`. */
export function checkedData<T extends TSchema> (schema: T, data: unknown): Static<T> {
  if (!Value.Check(schema, data)) throw new RealtimeError('RT_INVALID_DATA')
  return data
}
