import type { OutgoingEvent } from '../backplane/contract.js'
import { isPromise } from '../async/maybe-promise.js'
import { sleep } from '../async/timers.js'
import type { Joining, Page } from './joining.js'
import { batchOf } from './local-channel.js'
import type { PageReader, PageSource, Reader } from './replayer.js'

/** Pause after a failed read. */
export const RETRY_MS = 2000
/** Maximum number of late ids per read. */
export const LATE_IDS = 100

/** A channel of a replay over several. */
export interface MergedChannel {
  joining: Joining
  /** Ids of late events, at most at the position from which all are read. */
  late: readonly number[]
  /** Pages to write before the others: events that were waiting for the user. */
  first?: PageSource | undefined
}

/**
 * A replay over several channels of one reader, in the order of ids. Each channel reads its own pages from its own position,
 * small enough that those of all channels together are about one page. They are written up to the smallest last id of a page,
 * because later events of that channel are not known yet; the rest is read again. Channels that have reached the end of the log
 * wait for the others.
 */
export class MergedReplay {
  readonly #reader: Reader
  readonly #log: PageReader
  #channels: readonly MergedChannel[]
  readonly #firsts: Array<{ joining: Joining, source: PageSource }> = []
  #collected: OutgoingEvent[] = []

  constructor (reader: Reader, log: PageReader, channels: readonly MergedChannel[], since: number) {
    this.#reader = reader
    this.#log = log
    this.#channels = channels
    for (const { joining, late, first } of channels) {
      joining.collect = (frames) => { this.#collected.push(...frames) }
      joining.hold()
      if (first !== undefined) {
        joining.beginFirst()
        this.#firsts.push({ joining, source: first })
      }
      joining.replied(since)
      joining.addLate(late)
    }
  }

  /** The channel was requested again, with a position of its own. Returns its first pages. */
  release (joining: Joining): PageSource | undefined {
    if (!this.#channels.some((channel) => channel.joining === joining)) return undefined
    this.#channels = this.#channels.filter((channel) => channel.joining !== joining)
    joining.collect = null
    joining.unhold()
    const at = this.#firsts.findIndex((first) => first.joining === joining)
    return at < 0 ? undefined : this.#firsts.splice(at, 1)[0]?.source
  }

  async run (): Promise<void> {
    while (this.#isGoing()) {
      const room = this.#reader.room(this.#log.pageBytes)
      if (isPromise(room)) {
        await room
        continue
      }
      try {
        await this.#step()
      } catch {
        // An unavailable database is logged by the event log.
        await sleep(RETRY_MS, { ref: false })
      }
    }
    for (const { joining } of this.#channels) joining.unhold()
    this.#write()
    for (const { joining } of this.#channels) joining.collect = null
  }

  #isGoing (): boolean {
    this.#channels = this.#channels.filter(({ joining }) => !joining.isOver)
    if (this.#channels.some(({ joining }) => joining.isLost)) this.#reader.giveUp()
    if (this.#reader.closed) return false
    return this.#firsts.length > 0 || this.#channels.some(({ joining }) => joining.isDue)
  }

  async #step (): Promise<void> {
    const [first] = this.#firsts
    if (first !== undefined) return await this.#first(first.joining, first.source)
    const late = this.#channels.filter(({ joining }) => joining.late.length > 0).map(({ joining }) => joining)
    await (late.length > 0 ? this.#late(late) : this.#next())
  }

  /** The first pages at or below the position; later events are part of the replay. */
  async #first (joining: Joining, source: PageSource): Promise<void> {
    const page = await source.read()
    await this.#reader.room(page.batch.bytes)
    if (this.#reader.closed || this.#firsts[0]?.source !== source) return
    if (!joining.isOver) {
      const count = joining.writeFirst(page)
      this.#write()
      source.written(page, count)
      if (count < page.ids.length) source.skip()
      else if (page.more) return
    }
    joining.endFirst()
    this.#firsts.shift()
  }

  async #late (joinings: readonly Joining[]): Promise<void> {
    const ids = joinings.flatMap(({ late }) => late).sort((a, b) => a - b).slice(0, LATE_IDS)
    const last = ids.at(-1) ?? 0
    const asked = joinings.flatMap((joining) => {
      const own = joining.late.filter((id) => id <= last).slice(0, LATE_IDS)
      return own.length === 0 ? [] : [{ joining, ids: own }]
    })
    const pages = await Promise.all(asked.map(async ({ joining, ids }) => await this.#log.byIds(joining.key, ids, asked.length)))
    const end = endOf(pages, this.#log.pageBytes)
    await this.#room(pages)
    asked.forEach(({ joining, ids }, i) => {
      const page = pages[i]
      if (page !== undefined && isPart(joining)) joining.endLate(ids.filter((id) => id <= end), { ...upTo(page, end), more: false })
    })
    this.#write()
  }

  async #next (): Promise<void> {
    const due = this.#channels.filter(({ joining }) => joining.isDue).map(({ joining }) => joining)
    const places = due.map((joining) => ({ key: joining.key, ...joining.beginRead() }))
    // `beginRead` also writes kept events below the position.
    this.#write()
    const pages = await this.#log.together(places)
    await this.#room(pages)
    if (this.#reader.closed) return
    const left = due.flatMap((joining, i) => {
      const page = pages[i]
      return page !== undefined && isPart(joining) ? [{ joining, page }] : []
    })
    // Each must be checked, so that all late ids are known.
    if (left.map(({ joining, page }) => joining.findLate(page)).some(Boolean)) return
    const end = endOf(left.map(({ page }) => page), this.#log.pageBytes)
    for (const { joining, page } of left) joining.endRead(upTo(page, end))
    this.#write()
  }

  async #room (pages: readonly Page[]): Promise<void> {
    await this.#reader.room(Math.min(this.#log.pageBytes, pages.reduce((sum, { batch }) => sum + batch.bytes, 0)))
  }

  #write (): void {
    if (this.#collected.length === 0) return
    const frames = this.#collected.sort((a, b) => a.messageId - b.messageId)
    this.#collected = []
    if (!this.#reader.closed) this.#reader.write(batchOf(frames))
  }
}

/** Not released, nor left. */
const isPart = (joining: Joining): boolean => joining.collect !== null && !joining.isOver

/** The id up to which these pages can be written: the smallest last id of a page, or the id at which one page's size is reached. */
function endOf (pages: readonly Page[], bytes: number): number {
  let end = Math.min(...pages.map(({ ids, more }) => more ? ids.at(-1) ?? Infinity : Infinity))
  const sizes = pages.flatMap(({ ids, batch }) => ids.map((id, i) => ({ id, size: batch.payloads[i]?.length ?? 0 }))).sort((a, b) => a.id - b.id)
  let sum = 0
  for (const { id, size } of sizes) {
    if (sum > 0 && sum + size > bytes) {
      end = Math.min(end, id - 1)
      break
    }
    sum += size
  }
  return end
}

function upTo (page: Page, end: number): Page {
  const count = page.ids.findIndex((id) => id > end)
  return count < 0 ? page : { ...page, ids: page.ids.slice(0, count), batch: page.batch.first(count), more: true }
}
