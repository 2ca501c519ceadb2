import type { Entry, Presence } from './contract.js'

interface Held {
  entry: Entry
  /** The shared roster has it. */
  written: boolean
}

type Key = Pick<Entry, 'tenantId' | 'connectionId'>

/**
 * What this node holds of its own, beside the shared roster: enough to write its truth back after the shared one was
 * away, emptied or replaced.
 */
export class Holdings {
  readonly #entries = new Map<string, Held>()
  readonly #presences = new Map<string, { presence: Presence, written: boolean }>()
  /** How many entries each user has here. */
  readonly #users = new Map<string, number>()
  /** Left while nobody could be told. */
  readonly #gone = new Map<string, Entry>()

  hold (entry: Entry, written: boolean): void {
    this.#count(this.#entries.get(keyOf(entry))?.entry, -1)
    this.#count(entry, 1)
    this.#entries.set(keyOf(entry), { entry, written })
    this.#gone.delete(keyOf(entry))
  }

  /** Forgets an entry of this generation. */
  drop (key: Key & Pick<Entry, 'generation'>): Entry | null {
    const held = this.#entries.get(keyOf(key))
    if (held === undefined || held.entry.generation !== key.generation) return null
    this.#entries.delete(keyOf(key))
    this.#count(held.entry, -1)
    return held.entry
  }

  /** To be removed from the shared roster when it is back. */
  mourn (entry: Entry): void {
    this.#gone.set(keyOf(entry), entry)
  }

  buried (entry: Entry): void {
    this.#gone.delete(keyOf(entry))
  }

  /** Kept for users with a connection here; the others' is the shared roster's to keep. */
  setPresence (tenantId: number, userId: number, presence: Presence, written: boolean): void {
    if (this.has(tenantId, userId)) this.#presences.set(`${tenantId}/${userId}`, { presence, written })
  }

  /** The user has a connection here. */
  has (tenantId: number, userId: number): boolean {
    return this.#users.has(`${tenantId}/${userId}`)
  }

  get entries (): Held[] {
    return [...this.#entries.values()]
  }

  get gone (): Entry[] {
    return [...this.#gone.values()]
  }

  /** The statuses set by users that are connected here. */
  get presences (): Array<{ tenantId: number, userId: number, presence: Presence, written: boolean }> {
    return [...this.#presences].map(([key, said]) => {
      const [tenantId = 0, userId = 0] = key.split('/').map(Number)
      return { tenantId, userId, ...said }
    })
  }

  #count (entry: Entry | undefined, by: number): void {
    if (entry === undefined) return
    const key = `${entry.tenantId}/${entry.userId}`
    const count = (this.#users.get(key) ?? 0) + by
    if (count > 0) {
      this.#users.set(key, count)
    } else {
      this.#users.delete(key)
      this.#presences.delete(key)
    }
  }
}

const keyOf = ({ tenantId, connectionId }: Key): string => `${tenantId}/${connectionId}`
