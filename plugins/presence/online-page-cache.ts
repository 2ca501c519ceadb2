/** Maximum bytes of cached pages, over all tenants. */
const MAX_BYTES = 8 * 1024 * 1024
/** Maximum number of pages, because requests with arbitrary cursors create many small pages whose overhead exceeds their bytes. */
const MAX_PAGES = 10_000
/** A page is served from the cache for at most this long. */
const MAX_AGE_MS = 300_000

export interface CachedPage {
  bytes: Buffer
  /** The roster's version of the state that the page shows. */
  version: number
  /** When its content changes with time alone: a cached name expires, or `Away for 5m` becomes `6m`. */
  until: number
}

/** Encoded pages of the online list, reused while nothing in them has changed. */
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
