import { BoundedMap } from '../async/bounded-map.js'
import type { Id } from '../ids.js'
import type { StatusCounts } from './count-by-status.js'

/** A count that takes no longer than this, in milliseconds, is always made anew. */
const QUICK_MS = 20
/** Another one is kept for so many times what it took: the database spends at most one percent of its time on a tenant. */
const SHARE = 100
const MAX_KEPT_MS = 30_000
const MAX_TENANTS = 10_000

interface Count { result: Promise<StatusCounts>, began: number, until: number | null }

/** A tenant's events by status. Counting many takes the database long, and every user of the tenant may ask. */
export class TenantCounts {
  readonly #read: (tenantId: Id) => Promise<StatusCounts>
  readonly #counts = new BoundedMap<Id, Count>(MAX_TENANTS)

  constructor (read: (tenantId: Id) => Promise<StatusCounts>) {
    this.#read = read
  }

  /** Calls share a count that takes long, while it runs and for a while afterwards. */
  async of (tenantId: Id): Promise<StatusCounts> {
    const now = performance.now()
    const known = this.#counts.get(tenantId)
    if (known !== undefined && (known.until === null ? now - known.began > QUICK_MS : now < known.until)) return await known.result
    const count: Count = { result: this.#read(tenantId), began: now, until: null }
    this.#counts.set(tenantId, count)
    try {
      return await count.result
    } catch (err) {
      this.#forget(tenantId, count)
      throw err
    } finally {
      const took = performance.now() - now
      count.until = now + took + Math.min(SHARE * took, MAX_KEPT_MS)
      if (took <= QUICK_MS) this.#forget(tenantId, count)
    }
  }

  #forget (tenantId: Id, count: Count): void {
    if (this.#counts.get(tenantId) === count) this.#counts.delete(tenantId)
  }
}
