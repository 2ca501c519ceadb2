/**
 * A queue that serves tenants in turn, and within a tenant its holders in turn (a user, an address). A holder that queues ten
 * thousand items delays each other holder by at most one. Items of one holder keep their order.
 */
export class FairQueue<Item> {
  readonly #tenants = new Map<string | number, Map<string | number, Set<Item>>>()
  #size = 0

  get size (): number {
    return this.#size
  }

  push (tenant: string | number, holder: string | number, item: Item): void {
    let holders = this.#tenants.get(tenant)
    if (holders === undefined) {
      holders = new Map<string | number, Set<Item>>()
      this.#tenants.set(tenant, holders)
    }
    const items = holders.get(holder)
    if (items === undefined) holders.set(holder, new Set([item]))
    else items.add(item)
    this.#size++
  }

  /** Removes and returns the next item, skipping holders that are not ready; undefined without one. */
  take (isReady: (holder: string | number) => boolean = () => true): Item | undefined {
    for (const [tenant, holders] of this.#tenants) {
      for (const [holder, items] of holders) {
        if (!isReady(holder)) continue
        for (const item of items) {
          items.delete(item)
          this.#size--
          // To the end of both queues.
          holders.delete(holder)
          if (items.size > 0) holders.set(holder, items)
          this.#tenants.delete(tenant)
          if (holders.size > 0) this.#tenants.set(tenant, holders)
          return item
        }
      }
    }
    return undefined
  }

  /** Removes an item that no longer waits. */
  remove (tenant: string | number, holder: string | number, item: Item): boolean {
    const holders = this.#tenants.get(tenant)
    const items = holders?.get(holder)
    if (holders === undefined || items === undefined || !items.delete(item)) return false
    this.#size--
    if (items.size === 0) holders.delete(holder)
    if (holders.size === 0) this.#tenants.delete(tenant)
    return true
  }
}
