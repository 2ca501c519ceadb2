/** Bytes of pages kept at most, over all tenants. */
const MAX_BYTES = 8 * 1024 * 1024
/** And so many: one who asks from everywhere gets many small ones, whose keeping costs more than their bytes. */
const MAX_PAGES = 10_000
/** A page is made anew after this long, whatever else: the contract's bound. */
const MAX_AGE_MS = 300_000

export interface CachedPage {
  bytes: Buffer
  /** What the roster called the state that it shows. */
  version: number
  /** When something that it shows is no longer so without anybody's doing: a name, the minutes of an absence. */
  until: number
}

/** Pages of the online list as they were sent, to be sent again while everything that they show is still so. */
export class OnlinePageCache {
  readonly #pages = new Map<string, CachedPage>()
  #bytes = 0

  find (key: string, version: number, now: number): Buffer | null {
    const page = this.#pages.get(key)
    return page !== undefined && page.version === version && now < page.until ? page.bytes : null
  }

  keep (key: string, page: CachedPage, now: number): void {
    this.#drop(key)
    this.#pages.set(key, { ...page, until: Math.min(page.until, now + MAX_AGE_MS) })
    this.#bytes += page.bytes.length
    for (const oldest of this.#pages.keys()) {
      if (this.#bytes <= MAX_BYTES && this.#pages.size <= MAX_PAGES) break
      this.#drop(oldest)
    }
  }

  #drop (key: string): void {
    this.#bytes -= this.#pages.get(key)?.bytes.length ?? 0
    this.#pages.delete(key)
  }
}
