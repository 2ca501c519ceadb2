import { BoundedMap } from '../async/bounded-map.js'
import type { Id } from '../ids.js'
import type { StatusCounts } from './count-by-status.js'

/** With fewer events than this, counting is cheap, and counts are not cached. */
const MANY = 10_000
/** A large count is cached for this many times the duration of its query: the database spends at most one percent of its time on a tenant. */
const SHARE = 100
const MAX_KEPT_MS = 30_000
const MAX_TENANTS = 10_000

interface Count { result: Promise<StatusCounts>, until: number }

/** A tenant's events by status. Counting many takes the database long, and every user of the tenant may ask. */
export class TenantCounts {
  readonly #read: (tenantId: Id) => Promise<StatusCounts>
  /** Of tenants that had many when they were counted last. */
  readonly #large = new BoundedMap<Id, Count>(MAX_TENANTS)

  constructor (read: (tenantId: Id) => Promise<StatusCounts>) {
    this.#read = read
  }

  /** Calls share a count of many, while it runs and for a while afterwards. */
  async of (tenantId: Id): Promise<StatusCounts> {
    const began = performance.now()
    const known = this.#large.get(tenantId)
    if (known !== undefined && began < known.until) return await known.result
    const count: Count = { result: this.#read(tenantId), until: Infinity }
    if (known !== undefined) this.#large.set(tenantId, count)
    try {
      const found = await count.result
      const now = performance.now()
      count.until = now + Math.min(SHARE * (now - began), MAX_KEPT_MS)
      if (found.pending + found.failed >= MANY) this.#large.set(tenantId, count)
      else this.#large.delete(tenantId)
      return found
    } catch (err) {
      this.#large.delete(tenantId)
      throw err
    }
  }
}
