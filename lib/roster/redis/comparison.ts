import type { Id } from '../../ids.js'
import type { LocalSocket, LocalState } from './local-state.js'
import { MAX_ROWS, type Part } from './parts.js'

/** Sockets of one tenant to compare with Redis; `isLast`: with these, all sockets of the tenant were compared. */
export interface SocketPart extends Part<LocalSocket> { isLast: boolean }

/** All sockets of this node, grouped into calls, and its tenants without any. Sockets that are opened or closed meanwhile may be left out. */
export function * comparisonOf (local: LocalState, emptyTenantIds: Id[]): Generator<SocketPart[], void> {
  let call: SocketPart[] = []
  let size = 0
  for (const tenantId of [...emptyTenantIds, ...local.tenantIds]) {
    let part: SocketPart = { tenantId, rows: [], isLast: false }
    for (const socket of local.in(tenantId)) {
      part.rows.push(socket)
      if (size + part.rows.length < MAX_ROWS) continue
      yield [...call, part]
      part = { tenantId, rows: [], isLast: false }
      call = []
      size = 0
    }
    part.isLast = true
    call.push(part)
    size += Math.max(part.rows.length, 1)
    if (size < MAX_ROWS) continue
    yield call
    call = []
    size = 0
  }
  if (call.length > 0) yield call
}
