import type { FastifyBaseLogger } from 'fastify'
import type { Frame } from './backplane/contract.js'
import { channelKey, splitKey, type ChannelKey } from './channels.js'
import type { EventLog, StoredEvent } from './event-log/index.js'
import type { Hub } from './hub.js'

/** Pause between two marks of what was seen, and how many are kept. */
const MARK_EVERY = 1000
const MARKS = 120
/** Ids are given when an insert begins: one that was under way this long may still be below an id already seen. */
const LATE_COMMITS = 10_000
const CHANNELS_PER_READ = 200
const EVENTS_PER_READ = 1000
const RETRY = 1000
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
  #complete = 0
  #filling: Promise<void> | null = null
  #marking: NodeJS.Timeout | null = null
  #stopped = false

  constructor (options: GapFillerOptions) {
    this.#options = options
  }

  async start (): Promise<void> {
    this.#complete = await this.#options.eventLog.store.newest()
    this.#options.hub.newest = this.#complete
    this.#marking = setInterval(() => {
      this.#marks.push({ at: Date.now(), id: this.#options.hub.newest })
      if (this.#marks.length > MARKS) this.#marks.shift()
    }, MARK_EVERY)
  }

  stop (): void {
    if (this.#marking !== null) clearInterval(this.#marking)
    this.#stopped = true
    this.#missed.clear()
  }

  /** Everything published until `sentAt` came through. */
  heard (sentAt: number): void {
    if (this.#missed.size > 0) return
    const complete = this.#marks.findLast(({ at }) => at <= sentAt - LATE_COMMITS)
    if (complete !== undefined) this.#complete = complete.id
  }

  /** Channels of which frames may be missing. */
  missed (keys: readonly ChannelKey[]): void {
    for (const key of keys) {
      if (this.#options.hub.hold(key) !== null) this.#missed.add(key)
    }
    this.#filling ??= this.#fillAll().finally(() => { this.#filling = null })
  }

  async #fillAll (): Promise<void> {
    const { hub, log } = this.#options
    while (this.#missed.size > 0) {
      const keys = nextOfOneTenant(this.#missed)
      try {
        const events = await this.#read(keys)
        for (const key of keys) this.#release(key, events.get(key) ?? [])
      } catch (err) {
        log.warn({ err, channels: this.#missed.size }, 'missed events wait for the database')
        // Live frames go on; what is missing follows, and is in its place again for a client that sorts by id.
        for (const key of this.#missed) hub.fill(key, [])
        await new Promise((resolve) => setTimeout(resolve, RETRY).unref())
        if (this.#stopped) return
        for (const key of this.#missed) hub.hold(key)
      }
    }
  }

  async #read (keys: ChannelKey[]): Promise<Map<ChannelKey, StoredEvent[]>> {
    const found = new Map<ChannelKey, StoredEvent[]>()
    const { tenantId } = splitKey(keys[0] ?? '')
    const channels = keys.map((key) => splitKey(key).channel)
    for (let since = this.#complete; ;) {
      const events = await this.#options.eventLog.afterInAll(tenantId, channels, since, EVENTS_PER_READ)
      for (const event of events) {
        const key = channelKey(tenantId, event.channel)
        const known = found.get(key)
        if (known === undefined) found.set(key, [event])
        else known.push(event)
      }
      const last = events.at(-1)
      if (last === undefined || events.length < EVENTS_PER_READ) return found
      since = last.id
    }
  }

  #release (key: ChannelKey, events: StoredEvent[]): void {
    const { hub, eventLog } = this.#options
    this.#missed.delete(key)
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
