import type { FastifyBaseLogger } from 'fastify'
import type { OutgoingEvent } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import type { Hub } from '../delivery/hub.js'
import type { Ids } from '../ids.js'
import { channelOf, splitKey, type ChannelKey } from '../keys.js'
import { CLOCK_SKEW_MS, LATE_PUBLISH_IDS } from './contract.js'
import { byChannel, type EventLog, type StoredEvent } from './index.js'

/** Milliseconds between two samples of the newest id, and how many are kept. */
const SAMPLE_INTERVAL_MS = 1000
const MAX_SAMPLES = 120
/** Milliseconds that a commit may take: ids are assigned when an insert begins, so a smaller id may arrive this much later. */
const LATE_COMMIT_MS = 10_000
const CHANNELS_PER_READ = 200
const EVENTS_PER_READ = 1000
const RETRY_MS = 1000

export interface GapFillerOptions {
  hub: Hub
  eventLog: EventLog
  ids: Ids
  clock: Clock
  log: FastifyBaseLogger
}

/**
 * Reads events that the backplane lost from the log. Once a second it records the newest id seen. When a probe of the backplane
 * arrives, everything published before it was sent has arrived, too; so a later loss has a greater id than the newest one
 * recorded before that time, except for commits that were running then. Channels with a gap hold back live events, get the
 * missed ones, and continue: members receive all events in order, late, and known ids are dropped.
 */
export class GapFiller {
  readonly #options: GapFillerOptions
  /** `at` by `performance.now()`, `time` by the clock. */
  readonly #samples: Array<{ at: number, time: number, id: number }> = []
  readonly #gaps = new Set<ChannelKey>()
  /** Nothing is missing up to this id, which was the newest at that time. */
  #complete = { time: 0, id: 0 }
  #filling = false
  #sampling: NodeJS.Timeout | null = null
  #stopped = false

  constructor (options: GapFillerOptions) {
    this.#options = options
  }

  async start (): Promise<void> {
    const time = this.#options.clock.now()
    const id = await this.#options.eventLog.store.newest()
    this.#complete = { time, id }
    this.#options.hub.newest = Math.max(this.#options.hub.newest, id)
    this.#sampling = setInterval(() => {
      this.#samples.push({ at: performance.now(), time: this.#options.clock.now(), id: this.#options.hub.newest })
      if (this.#samples.length > MAX_SAMPLES) this.#samples.shift()
    }, SAMPLE_INTERVAL_MS)
  }

  /** A new epoch began: ids recorded before belong to another log. */
  forget (): void {
    this.#samples.length = 0
    const { clock, eventLog } = this.#options
    this.#complete = { time: clock.now(), id: 0 }
    eventLog.store.newest().then((id) => { this.#complete = { time: clock.now(), id } }, () => {}) // then the whole log is read
  }

  stop (): void {
    if (this.#sampling !== null) clearInterval(this.#sampling)
    this.#stopped = true
    this.#gaps.clear()
  }

  /** Everything published until `sentAt` (`performance.now()`) came through. */
  noteProbe (sentAt: number): void {
    if (this.#filling) return
    const complete = this.#samples.findLast(({ at }) => at <= sentAt - LATE_COMMIT_MS)
    if (complete !== undefined) this.#complete = complete
  }

  /** Reads missed events of these channels. */
  fillGaps (keys: readonly ChannelKey[]): void {
    for (const key of keys) {
      if (this.#options.hub.startGap(key) !== null) this.#gaps.add(key)
    }
    if (!this.#filling) void this.#fillAll()
  }

  async #fillAll (): Promise<void> {
    const { hub, log } = this.#options
    this.#filling = true
    while (this.#gaps.size > 0) {
      const keys = nextOfOneTenant(this.#gaps)
      for (const key of keys) this.#gaps.delete(key)
      try {
        const events = await this.#read(keys)
        for (const key of keys) {
          // If the channel has another gap now, its events may have been stored after this read.
          if (!this.#gaps.has(key)) this.#release(key, events.get(key) ?? [])
        }
      } catch (err) {
        for (const key of keys) this.#gaps.add(key)
        log.warn({ err, channels: this.#gaps.size }, 'Cannot read missed events, retrying')
        // Live events continue; the missed ones follow later, and clients sort them by id.
        for (const key of this.#gaps) hub.fillGap(key, [], false)
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref())
        if (this.#stopped) return
        for (const key of this.#gaps) hub.startGap(key)
      }
    }
    // In the same turn as the check for further gaps, so that a later gap starts another run.
    this.#filling = false
  }

  async #read (keys: readonly ChannelKey[]): Promise<Map<ChannelKey, StoredEvent[]>> {
    const found: StoredEvent[] = []
    const [first] = keys
    if (first === undefined) return new Map()
    const { tenantId } = splitKey(first, this.#options.ids)
    const channels = keys.map(channelOf)
    const { time, id } = this.#complete
    const publishedSince = time - CLOCK_SKEW_MS
    for (let since = Math.max(0, id - LATE_PUBLISH_IDS); ;) {
      const events = await this.#options.eventLog.readGap({ tenantId, channels, since, complete: id, publishedSince, limit: EVENTS_PER_READ })
      found.push(...events)
      const last = events.at(-1)
      if (last === undefined || events.length < EVENTS_PER_READ) return byChannel(found, (event) => this.#options.eventLog.outbox.keysOf(event))
      since = last.id
    }
  }

  #release (key: ChannelKey, events: StoredEvent[]): void {
    const { hub, eventLog } = this.#options
    const since = hub.startGap(key)
    if (since === null) return // the last member left in the meantime
    const frames = events
      .filter(({ publishedAt }) => publishedAt === null || publishedAt >= since - CLOCK_SKEW_MS)
      .map((event): OutgoingEvent => ({ payload: eventLog.encode(event), messageId: event.id, excludeConnectionId: null, isRetry: false }))
    hub.fillGap(key, frames)
  }
}

function nextOfOneTenant (keys: ReadonlySet<ChannelKey>): ChannelKey[] {
  const chosen: ChannelKey[] = []
  let tenant: string | null = null
  for (const key of keys) {
    tenant ??= key.slice(0, key.indexOf('/') + 1)
    if (key.startsWith(tenant)) chosen.push(key)
    if (chosen.length === CHANNELS_PER_READ) break
  }
  return chosen
}
