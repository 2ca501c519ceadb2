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
  readonly #presences = new Map<string, Presence>()
  /** Left while nobody could be told. */
  readonly #gone = new Map<string, Entry>()

  hold (entry: Entry): Held {
    const held = { entry, written: false }
    this.#entries.set(keyOf(entry), held)
    this.#gone.delete(keyOf(entry))
    return held
  }

  /** Forgets an entry of this generation. */
  drop (key: Key & Pick<Entry, 'generation'>): Entry | null {
    const held = this.#entries.get(keyOf(key))
    if (held === undefined || held.entry.generation !== key.generation) return null
    this.#entries.delete(keyOf(key))
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
  setPresence (tenantId: number, userId: number, presence: Presence): void {
    this.#presences.set(`${tenantId}/${userId}`, presence)
  }

  get entries (): Held[] {
    return [...this.#entries.values()]
  }

  get gone (): Entry[] {
    return [...this.#gone.values()]
  }

  /** The statuses set by users that are connected here; those of others are forgotten. */
  presences (): Array<{ tenantId: number, userId: number, presence: Presence }> {
    const here = new Map([...this.#entries.values()].map(({ entry }) => [`${entry.tenantId}/${entry.userId}`, entry]))
    for (const key of this.#presences.keys()) if (!here.has(key)) this.#presences.delete(key)
    return [...this.#presences].flatMap(([key, presence]) => {
      const entry = here.get(key)
      return entry === undefined ? [] : [{ tenantId: entry.tenantId, userId: entry.userId, presence }]
    })
  }
}

const keyOf = ({ tenantId, connectionId }: Key): string => `${tenantId}/${connectionId}`
