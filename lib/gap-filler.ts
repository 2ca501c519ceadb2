import type { FastifyBaseLogger } from 'fastify'
import type { Frame } from './backplane/contract.js'
import { splitKey, type ChannelKey } from './channels.js'
import { byChannel, type EventLog, type StoredEvent } from './event-log/index.js'
import type { Hub } from './hub.js'

/** Pause between two marks of what was seen, and how many are kept. */
const MARK_EVERY = 1000
const MARKS = 120
/** Ids are given when an insert begins: one that was under way this long may still be below an id already seen. */
const LATE_COMMITS = 10_000
const CHANNELS_PER_READ = 200
const EVENTS_PER_READ = 1000
const RETRY = 1000
/**
 * How far below the complete id events are looked for that were handed on long after they were stored, by a node that
 * could not reach Redis meanwhile.
 */
const HANDED_LATE = 100_000
/** Nodes' clocks, and the times in the table, may differ by this much. */
const CLOCK_SKEW = 1000

export interface GapFillerOptions {
  hub: Hub
  eventLog: EventLog
  log: FastifyBaseLogger
}

/**
 * Brings what the backplane lost. Once a second it notes the newest id seen; when the backplane's canary comes back,
 * everything seen up to the time it left is complete, so a later loss lies above the newest such mark, less what was
 * being committed then. Missed channels are held, read from the log from there on, and released: members get the
 * events in order, late, and those they had are dropped by id.
 */
export class GapFiller {
  readonly #options: GapFillerOptions
  readonly #marks: Array<{ at: number, id: number }> = []
  readonly #missed = new Set<ChannelKey>()
  /** Up to this id, and when it was the newest, nothing is missing here. */
  #complete = { at: 0, id: 0 }
  #filling = false
  #marking: NodeJS.Timeout | null = null
  #stopped = false

  constructor (options: GapFillerOptions) {
    this.#options = options
  }

  async start (): Promise<void> {
    const at = Date.now()
    const id = await this.#options.eventLog.store.newest()
    this.#complete = { at, id }
    this.#options.hub.newest = Math.max(this.#options.hub.newest, id)
    this.#marking = setInterval(() => {
      this.#marks.push({ at: Date.now(), id: this.#options.hub.newest })
      if (this.#marks.length > MARKS) this.#marks.shift()
    }, MARK_EVERY)
  }

  /** A new epoch began: the ids noted before say nothing about this log. */
  forget (): void {
    this.#marks.length = 0
    this.#complete = { at: Date.now(), id: 0 }
    this.#options.eventLog.store.newest().then((id) => { this.#complete = { at: Date.now(), id } }, () => {}) // then all is read, from the start
  }

  stop (): void {
    if (this.#marking !== null) clearInterval(this.#marking)
    this.#stopped = true
    this.#missed.clear()
  }

  /** Everything published until `sentAt` came through. */
  heard (sentAt: number): void {
    if (this.#filling) return
    const complete = this.#marks.findLast(({ at }) => at <= sentAt - LATE_COMMITS)
    if (complete !== undefined) this.#complete = complete
  }

  /** Channels of which frames may be missing. */
  missed (keys: readonly ChannelKey[]): void {
    for (const key of keys) {
      if (this.#options.hub.hold(key) !== null) this.#missed.add(key)
    }
    if (!this.#filling) void this.#fillAll()
  }

  async #fillAll (): Promise<void> {
    const { hub, log } = this.#options
    this.#filling = true
    while (this.#missed.size > 0) {
      const keys = nextOfOneTenant(this.#missed)
      for (const key of keys) this.#missed.delete(key)
      try {
        const events = await this.#read(keys)
        for (const key of keys) {
          // Missed once more while it was read: what was lost then may have been stored after the read.
          if (!this.#missed.has(key)) this.#release(key, events.get(key) ?? [])
        }
      } catch (err) {
        for (const key of keys) this.#missed.add(key)
        log.warn({ err, channels: this.#missed.size }, 'missed events wait for the database')
        // Live frames go on; what is missing follows, and is in its place again for a client that sorts by id.
        for (const key of this.#missed) hub.fill(key, [])
        await new Promise((resolve) => setTimeout(resolve, RETRY).unref())
        if (this.#stopped) return
        for (const key of this.#missed) hub.hold(key)
      }
    }
    // In the turn that found nothing left: a channel missed any later begins anew.
    this.#filling = false
  }

  async #read (keys: ChannelKey[]): Promise<Map<ChannelKey, StoredEvent[]>> {
    const found: StoredEvent[] = []
    const { tenantId } = splitKey(keys[0] ?? '')
    const channels = keys.map((key) => splitKey(key).channel)
    const { at, id } = this.#complete
    const handedSince = at - CLOCK_SKEW
    for (let since = Math.max(0, id - HANDED_LATE); ;) {
      const events = await this.#options.eventLog.missedInAll({ tenantId, channels, since, complete: id, handedSince, limit: EVENTS_PER_READ })
      found.push(...events)
      const last = events.at(-1)
      if (last === undefined || events.length < EVENTS_PER_READ) return byChannel(found)
      since = last.id
    }
  }

  #release (key: ChannelKey, events: StoredEvent[]): void {
    const { hub, eventLog } = this.#options
    const since = hub.hold(key)
    if (since === null) return // the last member left meanwhile
    const frames = events
      .filter(({ handedAt }) => handedAt === null || handedAt >= since - CLOCK_SKEW)
      .map((event): Frame => ({ payload: eventLog.encode(event), messageId: event.id, except: null, again: false }))
    hub.fill(key, frames)
  }
}

function nextOfOneTenant (keys: ReadonlySet<ChannelKey>): ChannelKey[] {
  const chosen: ChannelKey[] = []
  let tenant: number | null = null
  for (const key of keys) {
    const { tenantId } = splitKey(key)
    tenant ??= tenantId
    if (tenantId === tenant) chosen.push(key)
    if (chosen.length === CHANNELS_PER_READ) break
  }
  return chosen
}
