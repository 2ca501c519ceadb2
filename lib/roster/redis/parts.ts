import type { Id } from '../../ids.js'

/** Rows of one tenant for a script over several tenants. */
export interface Part<Row> {
  tenantId: Id
  rows: Row[]
}

/** Rows in one call of a script over several tenants; Redis is busy with them for a few milliseconds. */
export const MAX_ROWS = 200

/** Groups rows by tenant, in parts that fit one call. */
export function partsOf<Row> (rows: Iterable<Row>, tenantOf: (row: Row) => Id): Array<Part<Row>> {
  const parts: Array<Part<Row>> = []
  const open = new Map<Id, Part<Row>>()
  for (const row of rows) {
    const tenantId = tenantOf(row)
    let part = open.get(tenantId)
    if (part === undefined || part.rows.length === MAX_ROWS) {
      part = { tenantId, rows: [] }
      open.set(tenantId, part)
      parts.push(part)
    }
    part.rows.push(row)
  }
  return parts
}

/** Groups parts into calls of at most `MAX_ROWS` rows. On a cluster each tenant has a call of its own, because its keys are on one server. */
export function callsOf<P extends Part<unknown>> (parts: P[], isCluster: boolean): P[][] {
  const calls: P[][] = []
  let size = Infinity
  for (const part of parts) {
    if (size + part.rows.length > MAX_ROWS || isCluster) {
      calls.push([])
      size = 0
    }
    calls.at(-1)?.push(part)
    // A tenant without rows takes time as well.
    size += Math.max(part.rows.length, 1)
  }
  return calls
}
