import type { FastifyBaseLogger } from 'fastify'
import { defaultPresence, type RosterConnection, type Renewed, type RosterTimes } from '../contract.js'
import { decodePresence, encodePresence, toEntry } from './codec.js'
import { partsOf, ROWS, type Argument, type Part, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import type { Held, LocalState } from './local-state.js'
import type { Reminders } from './reminders.js'
import type { Sayings } from './sayings.js'
import type { RedisTyping } from './typing.js'

/** Sockets of one tenant that are compared with Redis in one call; `whole`: with these, all of them were. */
interface Checked extends Part<Held> { whole: boolean }

/** How long after a loss a node waits with what it could not write before, until the others have written what was known. */
const KNOWN_FIRST = 2000

export interface HealingParts {
  nodeId: string
  commands: RosterCommands
  lease: Lease
  holdings: LocalState
  reminders: Reminders
  typing: RedisTyping
  sayings: Sayings
  /** Connections that are joining, see {@link joiningKey}: what Redis says of them may be newer than what this node knows. */
  joining: ReadonlySet<string>
  times: RosterTimes
  log: FastifyBaseLogger
}

export const joiningKey = ({ tenantId, connectionId }: Pick<RosterConnection, 'tenantId' | 'connectionId'>): string => `${tenantId}/${connectionId}`

/**
 * Makes Redis agree with what this node holds. Redis may have lost or forgotten any part of it: each key can be evicted,
 * all of them can be gone, or an older copy comes back. Everything is compared once in a third of the lease, a share at a
 * time; all at once where a renewal shows that Redis lost something, or that others took this node for dead.
 */
export class Healing {
  readonly #parts: HealingParts
  /** What was found and is not made good yet: Redis may go away in the middle of it. */
  #owed: 'taken' | 'lost' | null = null
  #pass: Iterator<Checked[], void> | null = null
  /** What came since the last renewal. */
  #came: Held[] = []
  /** When the pass began that is going on, and the last one that is through, by Redis' clock. */
  #passAt = 0
  #checkedAt = 0

  constructor (parts: HealingParts) {
    this.#parts = parts
  }

  /** A socket that came is compared at the next renewal: a failover loses what was written last. */
  checkSoon (held: Held): void {
    this.#came.push(held)
  }

  async renew (share: number): Promise<Renewed> {
    const { lease, holdings, reminders, typing, sayings, log } = this.#parts
    const found: Renewed = { arrived: [], displaced: [] }
    const state = await lease.renew()
    if (state !== 'kept') this.#owed = state === 'lost' || this.#owed === 'lost' ? 'lost' : 'taken'
    const lost = this.#owed === 'lost'
    // Before anything that only seems to be this node's is removed: who left is told apart from who was told.
    found.arrived.push(...await reminders.send(lost))
    let missed = 0
    if (this.#owed !== null) {
      log.warn({ lost, connections: holdings.size }, 'Redis is not as this node left it: comparing everything')
      this.#pass = null
      if (lost) missed += await this.#restoreKnown(found)
    }
    missed += await this.#writeUnwritten(found)
    const isTurn = this.#pass !== null || share === 1 || this.#owed !== null || lease.now - this.#passAt >= lease.round
    missed += await typing.keep(isTurn && this.#pass === null ? 'all' : 'ending', lost)
    missed += await this.#checkCame(found)
    if (isTurn) missed += await this.#check(this.#owed === null ? Math.ceil(holdings.size * share) : Infinity, found)
    await sayings.write(lost)
    if (missed > 0) log.info({ missed }, 'wrote to Redis what it missed of this node')
    this.#owed = null
    lease.good()
    return found
  }

  async #restoreKnown (found: Renewed): Promise<number> {
    const { holdings, commands } = this.#parts
    const tenantIds = [...holdings.tenantIds]
    for (let at = 0; at < tenantIds.length; at += ROWS) await commands.rememberTenant(...tenantIds.slice(at, at + ROWS))
    return await this.#restore(tenantIds.flatMap((tenantId) => [...holdings.in(tenantId)].filter(({ entry }) => holdings.isTold(entry))), found)
  }

  /** What was done while Redis was away: who came, then who left. */
  async #writeUnwritten (found: Renewed): Promise<number> {
    const { holdings, lease, commands, nodeId, times } = this.#parts
    const came = holdings.unwritten.filter(({ entry }) => lease.lostFor >= KNOWN_FIRST || holdings.isTold(entry))
    const { departures } = holdings
    if (came.length + departures.length === 0) return 0
    await commands.rememberTenant(...new Set([...came, ...departures.map((entry) => ({ entry }))].map(({ entry }) => entry.tenantId)))
    const missed = await this.#restore(came, found)
    for (let at = 0; at < departures.length; at += ROWS) {
      await Promise.all(departures.slice(at, at + ROWS).map(async (entry) => {
        await commands.leave(entry, times.offlineDelay, { userId: entry.userId, nodeId })
        holdings.departureWritten(entry)
      }))
    }
    return missed + departures.length
  }

  /** Compares at least this many sockets, or all that are left of this pass. Returns how many Redis had wrong. */
  async #check (rows: number, found: Renewed): Promise<number> {
    if (this.#pass === null) {
      this.#passAt = this.#parts.lease.now
      this.#pass = this.#chunks(await this.#indexTenants())
    }
    let missed = 0
    for (let left = Math.max(rows, ROWS); left > 0; left -= ROWS) {
      const { done, value } = this.#pass.next()
      if (done === true) {
        this.#pass = null
        this.#checkedAt = this.#passAt
        break
      }
      missed += await this.#compare(value, found)
    }
    return missed
  }

  async #checkCame (found: Renewed): Promise<number> {
    const came = this.#came
    this.#came = []
    return await this.#compare(partsOf(came, ({ entry }) => entry.tenantId).map((part) => ({ ...part, whole: false })), found)
  }

  /** Sees to it that a reaper would find each tenant in which this node holds something. Returns those in which it does not. */
  async #indexTenants (): Promise<number[]> {
    const { commands, holdings, nodeId } = this.#parts
    const key = commands.tenantsKey(nodeId)
    const known = new Set((await commands.attempt(async (redis) => await redis.smembers(key))).map(Number))
    const missing = [...holdings.tenantIds].filter((tenantId) => !known.delete(tenantId))
    for (let at = 0; at < missing.length; at += ROWS) await commands.rememberTenant(...missing.slice(at, at + ROWS))
    return [...known]
  }

  /** All sockets, in lots of one call. What joins or leaves meanwhile is looked at or not. */
  * #chunks (notHeld: number[]): Generator<Checked[], void> {
    const { holdings } = this.#parts
    let lot: Checked[] = []
    let size = 0
    for (const tenantId of [...notHeld, ...holdings.tenantIds]) {
      let part: Checked = { tenantId, rows: [], whole: false }
      for (const held of holdings.in(tenantId)) {
        part.rows.push(held)
        if (size + part.rows.length < ROWS) continue
        yield [...lot, part]
        part = { tenantId, rows: [], whole: false }
        lot = []
        size = 0
      }
      part.whole = true
      lot.push(part)
      size += Math.max(part.rows.length, 1)
      if (size < ROWS) continue
      yield lot
      lot = []
      size = 0
    }
    if (lot.length > 0) yield lot
  }

  async #compare (parts: Checked[], found: Renewed): Promise<number> {
    const { commands, holdings, nodeId } = this.#parts
    const answered = await commands.runOver('verify', [nodeId], parts, (held: Held) => {
      const { entry } = held
      return this.#isSettled(held) && held.isInRedis
        ? [entry.connectionId, entry.userId, entry.generation, holdings.said(entry)?.seenAt ?? '']
        : null
    })
    const wrong: Held[] = []
    const { unwritten } = holdings
    let disowned = 0
    for (const { part, rows, answer } of answered) {
      const [numbers, learned, counted] = answer as [number[], string[], number]
      wrong.push(...numbers.flatMap((number) => rows[number - 1] ?? []))
      for (let i = 0; i + 2 < learned.length; i += 3) {
        const said = decodePresence(learned[i + 1], learned[i + 2], 0)
        if (said !== null) holdings.say({ tenantId: part.tenantId, userId: Number(learned[i]) }, said)
      }
      const expected = holdings.sizeOf(part.tenantId) - unwritten.filter(({ entry }) => entry.tenantId === part.tenantId).length
      if (part.whole && (counted !== expected || this.#owed !== null)) disowned += await this.#disown(part.tenantId)
      if (part.whole && counted === 0) await this.#forget(part.tenantId)
    }
    return disowned + await this.#restore(wrong, found)
  }

  /** Still held, and not about to be replaced. */
  #isSettled (held: Held): boolean {
    return this.#parts.holdings.get(held.entry) === held && !this.#parts.joining.has(joiningKey(held.entry))
  }

  async #restore (rows: Held[], found: Renewed): Promise<number> {
    if (rows.length === 0) return 0
    const { commands, holdings, lease, nodeId, times } = this.#parts
    const living = await commands.run('nodes', commands.nodesKey, '0') as string[]
    const tell = lease.isTaken && !lease.isRecovering
    const answered = await commands.runOver('restore', [nodeId, living.join(), times.offlineDelay, this.#checkedAt],
      partsOf(rows, ({ entry }) => entry.tenantId), (held) => this.#isSettled(held) ? this.#row(held, tell) : null)
    let missed = 0
    for (const { part, rows: sent, answer } of answered) {
      let removed = false
      sent.forEach((held, i) => {
        const [outcome, flag, text] = (answer as Array<[string, string, string]>)[i] ?? ['', '', '']
        if (outcome === 'lost') {
          found.displaced.push({ entry: held.entry, taken: flag === '0' })
          return
        }
        missed++
        holdings.wasWritten(held, flag === '1')
        if (flag === '1') found.arrived.push(held.entry)
        if (text === '') return
        const entry = toEntry(part.tenantId, text)
        removed = true
        found.displaced.push({ entry, taken: entry.userId !== held.entry.userId })
      })
      if (removed) await commands.becomingDue([part.tenantId], times.offlineDelay, async () => {})
    }
    return missed
  }

  #row ({ entry, openedAt }: Held, tell: boolean): Argument[] {
    const { holdings } = this.#parts
    const said = holdings.said(entry)
    // Where nothing is known to be said, until when that was so.
    const silent = openedAt <= this.#checkedAt ? this.#checkedAt : holdings.isFirst(entry) ? openedAt : ''
    return [
      entry.connectionId, entry.userId, entry.generation, entry.device, entry.connectedAt, openedAt,
      encodePresence(defaultPresence(entry.device, 0)), said === null ? '' : encodePresence(said), said?.seenAt ?? silent,
      tell || !holdings.isTold(entry) ? '1' : '0'
    ]
  }

  /** Removes what Redis counts as this node's, and this node does not hold. */
  async #disown (tenantId: number): Promise<number> {
    const { commands, holdings, joining, lease, nodeId } = this.#parts
    const ids = await commands.attempt(async (redis) => await redis.smembers(`${commands.base(tenantId)}node:${nodeId}`))
    const isForeign = (connectionId: string): boolean =>
      holdings.get({ tenantId, connectionId }) === undefined && !joining.has(joiningKey({ tenantId, connectionId }))
    const foreign = ids.filter(isForeign)
    if (foreign.length === 0) return 0
    await commands.becomingDue([tenantId], lease.patience, async () =>
      await commands.runOver('disown', [nodeId, lease.patience], partsOf(foreign, () => tenantId), (id) => isForeign(id) ? [id] : null))
    return foreign.length
  }

  async #forget (tenantId: number): Promise<void> {
    const { commands, holdings, joining, nodeId } = this.#parts
    if (holdings.sizeOf(tenantId) > 0 || [...joining].some((key) => key.startsWith(`${tenantId}/`))) return
    await commands.attempt(async (redis) => await redis.srem(commands.tenantsKey(nodeId), tenantId))
  }
}
