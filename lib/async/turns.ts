/** What one turn may take. At least one item is always taken. */
export interface Portion { items: number, size: number }

interface Line<Tenant, Item> { readonly tenant: Tenant, items: Item[] }

/** After another tenant's item, milliseconds for which the queue counts as shared. */
const SHARED_MS = 10_000

/**
 * Items that wait, in a line for each tenant; the lines are served in turn. A tenant that queues ten thousand items delays
 * another one by one portion of its line. With a single tenant it is a plain queue. Items of a tenant keep their order.
 */
export class Turns<Tenant, Item> {
  readonly #lines = new Map<Tenant, Line<Tenant, Item>>()
  readonly #sizeOf: (item: Item) => number
  /** The line of the last item: most items follow one of the same tenant. */
  #last: Line<Tenant, Item> | null = null
  #sharedAt = -Infinity
  #length = 0

  /** `sizeOf` measures an item in the unit of {@link Portion.size}. */
  constructor (sizeOf: (item: Item) => number) {
    this.#sizeOf = sizeOf
  }

  get length (): number {
    return this.#length
  }

  /** Tenants with items. */
  get tenants (): number {
    return this.#lines.size
  }

  /** Several tenants use it: now, or a moment ago. */
  get isShared (): boolean {
    return performance.now() - this.#sharedAt < SHARED_MS
  }

  /** Items of one tenant. */
  waitingOf (tenant: Tenant): number {
    return this.#lines.get(tenant)?.items.length ?? 0
  }

  push (tenant: Tenant, item: Item): void {
    const line = this.#last?.tenant === tenant ? this.#last : this.#lineOf(tenant)
    if (line.items.push(item) === 1) this.#lines.set(tenant, line)
    this.#length++
  }

  /** Takes up to `most`, from each line no more than `each` before the next line's turn. */
  take (most: Portion, each: Portion): Item[] {
    const taken: Item[] = []
    let left = most.size
    while (this.#length > 0 && taken.length < most.items && left > 0) {
      for (const line of this.#lines.values()) {
        left -= this.#takeFrom(line, { items: Math.min(each.items, most.items - taken.length), size: Math.min(each.size, left) }, taken)
        if (taken.length >= most.items || left <= 0) break
      }
    }
    return taken
  }

  /** Takes everything. */
  clear (): Item[] {
    const items = [...this.#lines.values()].flatMap((line) => line.items.splice(0))
    this.#lines.clear()
    this.#length = 0
    return items
  }

  #lineOf (tenant: Tenant): Line<Tenant, Item> {
    if (this.#last !== null) this.#sharedAt = performance.now()
    return this.#last = this.#lines.get(tenant) ?? { tenant, items: [] }
  }

  /** Moves a portion of a line, which then waits for its next turn. Returns its size. */
  #takeFrom (line: Line<Tenant, Item>, { items, size }: Portion, to: Item[]): number {
    let count = 0
    let taken = 0
    while (count < line.items.length && count < items && (count === 0 || taken < size)) {
      taken += this.#sizeOf(line.items[count] as Item)
      count++
    }
    if (count === line.items.length && to.length === 0) {
      to.push(...line.items)
      line.items = []
    } else {
      for (const item of line.items.splice(0, count)) to.push(item)
    }
    this.#length -= count
    this.#lines.delete(line.tenant)
    if (line.items.length > 0) this.#lines.set(line.tenant, line)
    return taken
  }
}
