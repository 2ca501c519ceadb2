import type { Id } from '../../ids.js'
import type { EarlyWatch, RosterWatches } from '../contract.js'
import type { Tenant } from './tenant.js'

/** Users to be watched by connections whose sockets are not open yet. */
export class MemoryWatches implements RosterWatches {
  readonly #tenants: ReadonlyMap<Id, Tenant>

  constructor (tenants: ReadonlyMap<Id, Tenant>) {
    this.#tenants = tenants
  }

  async recordWatches (tenantId: Id, connectionId: string, watches: readonly EarlyWatch[], limit: number): Promise<boolean> {
    const entry = this.#tenants.get(tenantId)?.connections.get(connectionId)
    if (entry === undefined) return true
    const kept = new Map([...entry.watches ?? [], ...watches.map(({ userId, said }): [Id, string] => [userId, said])])
    if (kept.size > limit) return false
    entry.watches = kept
    return true
  }

  async dropWatches (tenantId: Id, connectionId: string, userIds: readonly Id[] | null): Promise<number> {
    const entry = this.#tenants.get(tenantId)?.connections.get(connectionId)
    if (entry?.watches === undefined || entry.watches === null) return 0
    if (userIds === null) entry.watches = null
    else for (const id of userIds) entry.watches.delete(id)
    return entry.watches?.size ?? 0
  }

  async takeWatches (tenantId: Id, connectionId: string): Promise<EarlyWatch[]> {
    const entry = this.#tenants.get(tenantId)?.connections.get(connectionId)
    const watches = [...entry?.watches ?? []].map(([userId, said]) => ({ userId, said }))
    if (entry !== undefined) entry.watches = null
    return watches
  }
}
