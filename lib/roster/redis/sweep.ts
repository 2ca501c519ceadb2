import type { FastifyBaseLogger } from 'fastify'
import type { Id } from '../../ids.js'
import type { Due, RosterTimes, TypingEntry, UsersOfTenant } from '../contract.js'
import { decodePresence, toConnection, toMode } from './codec.js'
import type { RosterCommands } from './commands.js'
import type { Invisible } from './invisible.js'
import type { Lease } from './lease.js'
import type { Modes } from './modes.js'
import type { Part } from './parts.js'
import type { RecentDepartures } from './recent-departures.js'
import { toChange, type ChangeResult } from './rooms.js'
import type { RedisTyping } from './typing.js'

/** Milliseconds within which a node reports its claimed users; then another node may. */
const CLAIM = 5000
/** Tenants of a dead node that are reaped together. */
const REAP_TENANTS = 200

export interface SweepParts {
  invisible: Invisible
  modes: Modes
  commands: RosterCommands
  lease: Lease
  departures: RecentDepartures
  typing: RedisTyping
  times: RosterTimes
  log: FastifyBaseLogger
}

/** Deadlines of users, typing, connections without a socket, and nodes; for many tenants at once. */
export class RedisSweep {
  readonly #parts: SweepParts
  /** When this node left tenants to be checked in which users are being reported, and the number of that check, see `releaseTenants`. */
  readonly #reporting = new Map<Id, { checkAt: string, mark: string }>()

  constructor (parts: SweepParts) {
    this.#parts = parts
  }

  async claimDue (): Promise<Due[]> {
    const { commands, lease, typing, modes } = this.#parts
    const expiredHere = typing.takeExpired(commands.redis.ready && !lease.isIncomplete).map(({ entry }): Due =>
      ({ tenantId: entry.tenantId, offline: [], presences: [], typing: [entry], expiredConnections: [], mode: modes.of(entry.tenantId), rooms: [], announce: null }))
    // After a loss, users may look offline whose nodes have not written them back yet.
    if (lease.isIncomplete) return expiredHere
    try {
      for (;;) {
        const { found, more } = await this.#claimPart()
        if (found.length > 0 || !more) return [...expiredHere, ...found]
      }
    } catch (err) {
      if (expiredHere.length === 0) throw err
      return expiredHere
    }
  }

  async #claimPart (): Promise<{ found: Due[], more: boolean }> {
    const { commands, invisible, lease, times, modes } = this.#parts
    const [claimEnd = '', ...claimed] = await commands.run('claimTenants', commands.dueKey, { claim: CLAIM }) as string[]
    const parts: Array<Part<never> & { mark: string }> = []
    for (let i = 0; i + 1 < claimed.length; i += 2) parts.push({ tenantId: commands.ids.parse(claimed[i] ?? ''), rows: [], mark: claimed[i + 1] ?? '0' })
    if (parts.length === 0) return { found: [], more: false }
    const results = await commands.runOver('collectDue', { offlineDelay: times.offlineDelay, claim: CLAIM }, parts, () => null)
    const found: Due[] = []
    const released: Array<string | number> = []
    const unknown: Id[] = []
    for (const { part: { tenantId, mark }, result } of results) {
      const [offline, presences, typing, expired, nextCheck, everyone, online, announce, changes, isUnknown] =
        result as [string[], string[], string[], string[], string, string, number, '' | 'mode' | 'count', Array<[channel: string, ChangeResult]>, string]
      const rooms = changes.flatMap(([channel, change]) => toChange((id) => commands.ids.parse(id), channel, change) ?? [])
      const mode = modes.learn(tenantId, toMode(everyone, online))
      if (isUnknown !== '') unknown.push(tenantId)
      released.push(tenantId, claimEnd, mark, nextCheck)
      if (offline.length > 0) this.#reporting.set(tenantId, { checkAt: nextCheck, mark })
      if (offline.length + typing.length + expired.length + rooms.length === 0 && announce === '') continue
      found.push({
        tenantId,
        offline: offline.map((user) => commands.ids.parse(user)),
        presences: offline.map((_, i) => decodePresence(presences[2 * i], presences[2 * i + 1], lease.now)),
        typing: typing.map((text) => JSON.parse(text) as TypingEntry),
        expiredConnections: expired.map((text) => toConnection(commands.ids, tenantId, text)),
        mode,
        rooms,
        announce: announce === '' ? null : announce
      })
    }
    await commands.run('releaseTenants', commands.dueKey, {}, released)
    // Their users wait for it.
    await invisible.ensure(unknown).catch(() => {})
    return { found, more: true }
  }

  async confirmOffline (users: UsersOfTenant[]): Promise<UsersOfTenant[]> {
    const { commands, departures, lease } = this.#parts
    const parts = users.filter(({ userIds }) => userIds.length > 0).map(({ tenantId, userIds }) => ({ tenantId, rows: userIds }))
    if (parts.length === 0) return []
    const results = await commands.runOver('confirmOffline', {}, parts, (userId) => ({ user: userId }))
    await this.#checkNext(results.map(({ part: { tenantId }, result }) => [tenantId, (result as [string[], string])[1]]))
    const at = lease.now
    return results.flatMap(({ part: { tenantId }, rows, result }) => {
      const back = (result as [string[], string])[0].map((user) => commands.ids.parse(user))
      for (const userId of rows) if (!back.includes(userId)) departures.add({ tenantId, userId, at, isReported: true })
      return back.length === 0 ? [] : [{ tenantId, userIds: back }]
    })
  }

  /**
   * The tenants' deadlines are these, now that users were removed. Without this, each tenant would be checked once more at the
   * time at which another node would have reported them.
   */
  async #checkNext (deadlines: Array<[tenantId: Id, at: string]>): Promise<void> {
    const { commands } = this.#parts
    const released = deadlines.flatMap(([tenantId, at]) => {
      const check = this.#reporting.get(tenantId)
      return check === undefined ? [] : [tenantId, check.checkAt, check.mark, at]
    })
    for (const [tenantId] of deadlines) this.#reporting.delete(tenantId)
    if (released.length > 0) await commands.run('releaseTenants', commands.dueKey, {}, released)
    // Another node may have ended the claim meanwhile, or it may be lost. Fewer users are online now, which is sent at once.
    await commands.scheduleAt(deadlines.filter(([, at]) => at !== ''))
  }

  async reap (): Promise<boolean> {
    const { commands, lease, log } = this.#parts
    if (lease.isIncomplete) return false
    let hasReaped = false
    for (const nodeId of await this.#deadNodes()) {
      const key = commands.tenantsKey(nodeId)
      for (;;) {
        const tenantIds = (await commands.redis.srandmember(key, REAP_TENANTS)).map((tenant) => commands.ids.parse(tenant))
        if (tenantIds.length === 0) break
        // The node may have come back in the meantime, with new connections.
        if (!(await this.#deadNodes()).includes(nodeId)) return hasReaped
        await this.#reapIn(nodeId, tenantIds)
        await commands.redis.srem(key, ...tenantIds)
        hasReaped = true
      }
      // Last, so that after an interruption the next reaper finds the node.
      await commands.redis.zrem(commands.nodesKey, nodeId)
      log.info({ nodeId }, 'Removed dead node from roster')
    }
    return hasReaped
  }

  async #deadNodes (): Promise<string[]> {
    return await this.#parts.commands.run('deadNodes', this.#parts.commands.nodesKey, {}) as string[]
  }

  async #reapIn (nodeId: string, tenantIds: Id[]): Promise<void> {
    const { commands, lease } = this.#parts
    // Users from an older copy of Redis may have been reported offline before; a node that knows that removes them meanwhile.
    const [offlineDelay, isRepair] = lease.isRecovering ? [lease.cautiousOfflineDelay, '1'] : [0, '0']
    await commands.withScheduledCheck(tenantIds, offlineDelay, async () => {
      let left = tenantIds.map((tenantId): Part<never> => ({ tenantId, rows: [] }))
      while (left.length > 0) {
        const results = await commands.runOver('reap', { node: nodeId, offlineDelay, isRepair }, left, () => null)
        left = results.filter(({ result }) => Number(result) > 0).map(({ part }) => part)
      }
    })
  }
}
