import type { FastifyBaseLogger } from 'fastify'
import type { Id } from '../../ids.js'
import { connectionKey } from '../../keys.js'
import type { RowOf } from '../../redis/commands.js'
import { defaultPresence, type Renewed, type RosterTimes } from '../contract.js'
import { decodePresence, encodePresence, toConnection, toMode } from './codec.js'
import type { RosterCommands } from './commands.js'
import { comparisonOf, type SocketPart } from './comparison.js'
import type { restore } from './heal-scripts.js'
import type { Invisible } from './invisible.js'
import type { Lease } from './lease.js'
import type { LocalSocket, LocalState } from './local-state.js'
import type { OfflineReconciler } from './offline-reconciler.js'
import type { Modes } from './modes.js'
import { MAX_ROWS, partsOf } from './parts.js'
import type { RecentPresences } from './recent-presences.js'
import type { RedisRooms } from './rooms.js'
import type { RedisTyping } from './typing.js'

/** Milliseconds after a loss before this node writes sockets of users who were not reported; until then the other nodes have written those that were. */
const REPORTED_FIRST = 2000

export interface HealingParts {
  invisible: Invisible
  modes: Modes
  nodeId: string
  commands: RosterCommands
  lease: Lease
  local: LocalState
  offline: OfflineReconciler
  typing: RedisTyping
  presences: RecentPresences
  rooms: RedisRooms
  /** Connections that are joining: Redis may have a newer state of them than this node. */
  joining: ReadonlySet<string>
  times: RosterTimes
  log: FastifyBaseLogger
}

/**
 * Makes Redis agree with this node's entries. Redis may have lost any part of them: keys are evicted, everything is gone, or
 * an older copy comes back. Each third of the lease, everything is compared once, a part at a time. If a renewal finds that
 * Redis lost data or that other nodes took this node for dead, everything is compared at once.
 */
export class Healing {
  readonly #parts: HealingParts
  /** A loss that was found and not repaired completely: Redis may go away in the middle of it. */
  #openLoss: 'presumed-dead' | 'lost' | null = null
  /** The comparison in progress. */
  #comparison: Iterator<SocketPart[], void> | null = null
  /** Sockets that were opened since the last renewal. */
  #opened: LocalSocket[] = []
  /** When the comparison in progress, and the last complete one, began; by Redis' clock. */
  #comparisonAt = 0
  #verifiedAt = 0

  constructor (parts: HealingParts) {
    this.#parts = parts
  }

  /** Compares a new socket at the next renewal, because a failover loses the latest writes. */
  checkSoon (socket: LocalSocket): void {
    this.#opened.push(socket)
  }

  async renew (share: number): Promise<Renewed> {
    const { lease, offline, presences, log } = this.#parts
    const found: Renewed = { arrived: [], displaced: [] }
    await this.#renewLease()
    const hasLost = this.#openLoss === 'lost'
    // Before any user is written, so that no invisible user appears.
    await this.#parts.invisible.restore(hasLost, this.#parts.local.tenantIds)
    // First, because the next steps remove connections, and users who left must be known apart from users who were reported.
    found.arrived.push(...await offline.reconcile(hasLost))
    let missed = 0
    if (this.#openLoss !== null) missed += await this.#restoreReported(hasLost, found)
    missed += await this.#writeUnwritten(found)
    const isDue = this.#comparison !== null || share === 1 || this.#openLoss !== null || lease.now - this.#comparisonAt >= lease.comparisonInterval
    missed += await this.#parts.typing.restore(isDue && this.#comparison === null ? 'all' : 'ending', hasLost)
    missed += await this.#compareOpened(found)
    if (isDue) missed += await this.#continueComparison(this.#openLoss === null ? Math.ceil(this.#parts.local.size * share) : Infinity, found)
    await presences.write(hasLost)
    // After the users, whose statuses decide whether they are members.
    await this.#parts.rooms.compare(this.#openLoss !== null)
    if (missed > 0) log.info({ missed }, 'Wrote state of this node that was missing in Redis')
    this.#openLoss = null
    lease.markComplete()
    return found
  }

  async #renewLease (): Promise<void> {
    const state = await this.#parts.lease.renew()
    if (state !== 'kept') this.#openLoss = state === 'lost' || this.#openLoss === 'lost' ? 'lost' : 'presumed-dead'
  }

  /** After a loss, writes the sockets of users who were reported online. */
  async #restoreReported (hasLost: boolean, found: Renewed): Promise<number> {
    const { local, commands, log } = this.#parts
    log.warn({ lost: hasLost, connections: local.size }, 'Redis lost state of this node, comparing everything')
    this.#comparison = null
    if (!hasLost) return 0
    await commands.rememberTenants(local.tenantIds)
    return await this.#restore([...local.tenantIds].flatMap((tenantId) => [...local.in(tenantId)].filter(({ entry }) => local.isReported(entry))), found)
  }

  /** Writes changes made while Redis was away: new sockets, then ended ones. */
  async #writeUnwritten (found: Renewed): Promise<number> {
    const { local, lease, commands, nodeId } = this.#parts
    const opened = local.unwritten.filter(({ entry }) => lease.timeSinceLoss >= REPORTED_FIRST || local.isReported(entry))
    const { departures } = local
    if (opened.length + departures.length === 0) return 0
    await commands.rememberTenants(new Set([...opened.map(({ entry }) => entry.tenantId), ...departures.map(({ tenantId }) => tenantId)]))
    const missed = await this.#restore(opened, found)
    for (let at = 0; at < departures.length; at += MAX_ROWS) {
      await Promise.all(departures.slice(at, at + MAX_ROWS).map(async (entry) => {
        await commands.leave(entry, entry.offlineDelay, { userId: entry.userId, nodeId })
        local.departureWritten(entry)
      }))
    }
    return missed + departures.length
  }

  /** Compares at least this many sockets, or all that are left. Returns how many were wrong in Redis. */
  async #continueComparison (rows: number, found: Renewed): Promise<number> {
    if (this.#comparison === null) {
      this.#comparisonAt = this.#parts.lease.now
      this.#comparison = comparisonOf(this.#parts.local, await this.#indexTenants())
    }
    let missed = 0
    for (let left = Math.max(rows, MAX_ROWS); left > 0; left -= MAX_ROWS) {
      const { done, value } = this.#comparison.next()
      if (done === true) {
        this.#comparison = null
        this.#verifiedAt = this.#comparisonAt
        break
      }
      missed += await this.#compare(value, found)
    }
    return missed
  }

  async #compareOpened (found: Renewed): Promise<number> {
    const opened = this.#opened
    this.#opened = []
    return await this.#compare(partsOf(opened, ({ entry }) => entry.tenantId).map((part) => ({ ...part, isLast: false })), found)
  }

  /** Records each tenant in which this node has sockets. Returns recorded tenants in which it has none. */
  async #indexTenants (): Promise<Id[]> {
    const { commands, local, nodeId } = this.#parts
    const recorded = new Set((await commands.redis.smembers(commands.tenantsKey(nodeId))).map((tenant) => commands.ids.parse(tenant)))
    await commands.rememberTenants([...local.tenantIds].filter((tenantId) => !recorded.delete(tenantId)))
    return [...recorded]
  }

  async #compare (parts: SocketPart[], found: Renewed): Promise<number> {
    const { commands, invisible, local, modes, nodeId } = this.#parts
    const results = await commands.runOver('verify', { node: nodeId }, parts, (socket: LocalSocket) => {
      const { entry } = socket
      return this.#isCurrent(socket) && socket.isInRedis
        ? { id: entry.connectionId, user: entry.userId, generation: entry.generation, setAt: local.presence(entry)?.seenAt ?? '' }
        : null
    })
    const wrong: LocalSocket[] = []
    const { unwritten } = local
    const [unknown, lostModes]: [Id[], Id[]] = [[], []]
    let disowned = 0
    for (const { part, rows, result } of results) {
      const [numbers, learned, counted, mode, isInvisibleKnown] = result as [number[], string[], number, string, string]
      wrong.push(...numbers.flatMap((number) => rows[number - 1] ?? []))
      for (let i = 0; i + 2 < learned.length; i += 3) {
        const presence = decodePresence(learned[i + 1], learned[i + 2], 0)
        if (presence !== null) local.setPresence({ tenantId: part.tenantId, userId: commands.ids.parse(learned[i] ?? '') }, presence)
      }
      const expected = local.sizeOf(part.tenantId) - unwritten.filter(({ entry }) => entry.tenantId === part.tenantId).length
      if (part.isLast && (counted !== expected || this.#openLoss !== null)) disowned += await this.#disown(part.tenantId)
      if (part.isLast && counted === 0) await this.#forgetTenant(part.tenantId)
      if (isInvisibleKnown === '') unknown.push(part.tenantId)
      if (modes.isLost(part.tenantId, toMode(mode, 0).everyone)) lostModes.push(part.tenantId)
    }
    // If the database does not respond, the next comparison tries again.
    await invisible.ensure(unknown).catch(() => {})
    // When every node has written its users, because their number decides.
    if (!this.#parts.lease.isIncomplete) await modes.restore(commands, lostModes)
    return disowned + await this.#restore(wrong, found)
  }

  /** Still open, and not about to be replaced. */
  #isCurrent (socket: LocalSocket): boolean {
    return this.#parts.local.get(socket.entry) === socket && !this.#parts.joining.has(connectionKey(socket.entry.tenantId, socket.entry.connectionId))
  }

  async #restore (sockets: LocalSocket[], found: Renewed): Promise<number> {
    if (sockets.length === 0) return 0
    const { commands, invisible, local, lease, nodeId, times } = this.#parts
    const livingNodes = await commands.livingNodes()
    const isArrival = lease.isPresumedDead && !lease.isRecovering
    const results = await commands.runOver('restore', {
      node: nodeId, livingNodes: livingNodes.join(), offlineDelay: times.offlineDelay, verifiedAt: this.#verifiedAt
    }, partsOf(sockets, ({ entry }) => entry.tenantId), (socket) => this.#isCurrent(socket) ? this.#row(socket, isArrival) : null)
    let missed = 0
    const unknown = new Set<Id>()
    for (const { part, rows, result } of results) {
      let hasRemoved = false
      rows.forEach((socket, i) => {
        const [outcome, flag, removed] = (result as Array<[string, string, string]>)[i] ?? ['', '', '']
        if (outcome === 'unknown') {
          // Not written: the next comparison finds it.
          unknown.add(part.tenantId)
          return
        }
        if (outcome === 'lost') {
          found.displaced.push({ entry: socket.entry, taken: flag === '0' })
          return
        }
        missed++
        local.markWritten(socket, flag === '1')
        if (flag === '1') found.arrived.push(socket.entry)
        if (removed === '') return
        const entry = toConnection(commands.ids, part.tenantId, removed)
        hasRemoved = true
        found.displaced.push({ entry, taken: entry.userId !== socket.entry.userId })
      })
      if (hasRemoved) await commands.withScheduledCheck([part.tenantId], times.offlineDelay, async () => {})
    }
    await invisible.ensure([...unknown]).catch(() => {})
    return missed
  }

  #row ({ entry, openedAt, isInRedis }: LocalSocket, isArrival: boolean): RowOf<typeof restore> {
    const { local } = this.#parts
    const presence = local.presence(entry)
    // Without a presence: until when the user is known not to have set one.
    const unsetUntil = isInRedis && openedAt <= this.#verifiedAt ? this.#verifiedAt : local.isFirst(entry) ? openedAt : ''
    return {
      id: entry.connectionId,
      user: entry.userId,
      generation: entry.generation,
      device: entry.device,
      connectedAt: entry.connectedAt,
      openedAt,
      defaultPresence: encodePresence(defaultPresence(entry.device, 0)),
      presence: presence === null ? '' : encodePresence(presence),
      setAt: presence?.seenAt ?? unsetUntil,
      isArrival: isArrival || !local.isReported(entry) ? '1' : '0'
    }
  }

  /** Removes connections that Redis assigns to this node and that are not open here. */
  async #disown (tenantId: Id): Promise<number> {
    const { commands, local, joining, lease, nodeId } = this.#parts
    const ids = await commands.redis.smembers(`${commands.base(tenantId)}node:${nodeId}`)
    const isForeign = (connectionId: string): boolean =>
      local.get({ tenantId, connectionId }) === undefined && !joining.has(connectionKey(tenantId, connectionId))
    const foreign = ids.filter(isForeign)
    if (foreign.length === 0) return 0
    const offlineDelay = lease.cautiousOfflineDelay
    await commands.withScheduledCheck([tenantId], offlineDelay, async () =>
      await commands.runOver('disown', { node: nodeId, offlineDelay }, partsOf(foreign, () => tenantId), (id) => isForeign(id) ? { id } : null))
    return foreign.length
  }

  async #forgetTenant (tenantId: Id): Promise<void> {
    const { commands, local, joining, nodeId } = this.#parts
    if (local.sizeOf(tenantId) > 0 || [...joining].some((key) => key.startsWith(`${tenantId}/`))) return
    await commands.redis.srem(commands.tenantsKey(nodeId), tenantId)
  }
}
