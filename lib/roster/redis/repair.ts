import type { Id } from '../../ids.js'
import type { RosterTimes } from '../contract.js'
import type { RosterCommands } from './commands.js'
import type { Invisible } from './invisible.js'
import type { Lease } from './lease.js'
import { partsOf, type Part } from './parts.js'

/** Keys visited by one SCAN. */
const SCAN_SIZE = 1000
/** Keys that a tenant has many of; they are repaired one by one. */
const MANY_PER_TENANT = /^(?:of|channels|watches|typers|node|room|holders|crowd):/

/**
 * The only key that a tenant keeps when all of its users have left, for a day. It needs no repair by itself, and a search of each
 * tenant of the last day in every pass would be most of what Redis does.
 */
const LEFTOVER = 'invisible'

/** The progress in one tenant: cursors through its connections, users and typing, '' for what is done. */
type Cursors = [connections: string, users: string, typing: string]

/**
 * Searches Redis for entries that no node corrects by itself: connections of unknown nodes, users who count as online without a
 * connection, and leftovers of users who are offline. It finds tenants by scanning for keys, because any key with a list of
 * tenants can be evicted as well. One pass takes half of the lease.
 */
export class RedisRepair {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #times: RosterTimes
  readonly #invisible: Invisible
  #pass: AsyncGenerator<void, void> | null = null
  #passAt = 0
  /** Steps of the last pass and of this one. */
  #steps = { last: 0, now: 0 }
  /** Nodes that have connections and no lease, and since when. */
  readonly #unknown = new Map<string, number>()

  constructor (commands: RosterCommands, lease: Lease, times: RosterTimes, invisible: Invisible) {
    this.#commands = commands
    this.#lease = lease
    this.#times = times
    this.#invisible = invisible
  }

  /** Repairs this share of the keys, from 0 to 1. */
  async repair (share: number): Promise<void> {
    // Until every node has written its entries, entries that look orphaned may not be.
    if (this.#lease.isIncomplete) return
    if (this.#pass === null && share < 1 && this.#lease.now - this.#passAt < this.#times.nodeTimeout / 2) return
    let left = share < 1 ? Math.ceil(this.#steps.last * share) + 1 : Infinity
    if (this.#pass === null) {
      this.#passAt = this.#lease.now
      this.#steps = { last: this.#steps.now, now: 0 }
      this.#pass = this.#run()
    }
    for (; left > 0; left--) {
      this.#steps.now++
      if ((await this.#pass.next()).done !== true) continue
      this.#pass = null
      return
    }
  }

  /** Yields after each step of one or two calls. */
  async * #run (): AsyncGenerator<void, void> {
    const { prefix, redis } = this.#commands
    const seen = new Set<Id>()
    const unknown = new Set<string>()
    for await (const keys of redis.scan(`${prefix}{*}:*`, SCAN_SIZE)) {
      const names = this.#byTenant(keys)
      const newTenants = [...names.keys()].filter((tenantId) => !seen.has(tenantId))
      for (const tenantId of newTenants) seen.add(tenantId)
      for await (const nodeIds of this.#repairTenants(newTenants)) {
        for (const nodeId of nodeIds) unknown.add(nodeId)
        yield
      }
      for (const nodeId of await this.#repairKeys(names)) unknown.add(nodeId)
      yield
    }
    for (const nodeId of this.#unknown.keys()) if (!unknown.has(nodeId)) this.#unknown.delete(nodeId)
  }

  /** The tenants of the keys, each with the names of those keys that are repaired one by one. */
  #byTenant (keys: string[]): Map<Id, string[]> {
    const names = new Map<Id, string[]>()
    for (const key of keys) {
      const [tenant = '', name = ''] = key.slice(this.#commands.prefix.length + 1).split(/}:(.*)/s)
      if (name === LEFTOVER) continue
      const tenantId = this.#commands.ids.parse(tenant)
      const known = names.get(tenantId)
      const named = MANY_PER_TENANT.test(name) ? [name] : []
      if (known === undefined) names.set(tenantId, named)
      else known.push(...named)
    }
    return names
  }

  /** Yields, after each call, the nodes that have connections and are not living. */
  async * #repairTenants (tenantIds: Id[]): AsyncGenerator<string[], void> {
    let open = tenantIds.map((tenantId): Part<Cursors> => ({ tenantId, rows: [['0', '0', '0']] }))
    while (open.length > 0) {
      const living = await this.#commands.livingNodes()
      const results = await this.#commands.runOver('repairTenants', {
        livingNodes: living.join(), registrationTtl: this.#times.registrationTtl, offlineDelay: this.#lease.cautiousOfflineDelay
      }, open, ([connectionCursor, userCursor, typingCursor]) => ({ connectionCursor, userCursor, typingCursor }))
      const deadlines: Array<[tenantId: Id, at: string]> = []
      const tenantsOfNode = new Map<string, Id[]>()
      const unknown: Id[] = []
      open = []
      for (const { part: { tenantId }, result } of results) {
        const [cursors, owners, deadline, isInvisibleKnown] = result as [Cursors, string[], string, string]
        if (isInvisibleKnown === '') unknown.push(tenantId)
        if (cursors.some((cursor) => cursor !== '')) open.push({ tenantId, rows: [cursors] })
        if (deadline !== '') deadlines.push([tenantId, deadline])
        for (const nodeId of owners) tenantsOfNode.set(nodeId, [...tenantsOfNode.get(nodeId) ?? [], tenantId])
      }
      await this.#commands.scheduleAt(deadlines)
      // The next pass finds the remaining ones.
      await this.#invisible.ensure(unknown).catch(() => {})
      yield await this.#index(tenantsOfNode, living)
    }
  }

  /** Removes orphaned keys. Returns the nodes that have keys and are not living. */
  async #repairKeys (names: Map<Id, string[]>): Promise<string[]> {
    const parts = [...names].filter(([, named]) => named.length > 0)
      .flatMap(([tenantId, named]) => partsOf(named, () => tenantId))
    if (parts.length === 0) return []
    const living = await this.#commands.livingNodes()
    const tenantsOfNode = new Map<string, Id[]>()
    for (const { part: { tenantId }, result } of await this.#commands.runOver('repairKeys', { livingNodes: living.join() }, parts, (keyName) => ({ keyName }))) {
      for (const nodeId of result as string[]) tenantsOfNode.set(nodeId, [...tenantsOfNode.get(nodeId) ?? [], tenantId])
    }
    return await this.#index(tenantsOfNode, living)
  }

  /**
   * Records for each node the tenants in which it has connections, for the node itself and for its reaper. A node that has
   * had no lease for as long as a lease lasts gets one that has ended, so that it is reaped. A living node whose lease was
   * evicted renews it before that.
   */
  async #index (tenantsOfNode: Map<string, Id[]>, living: string[]): Promise<string[]> {
    const { redis, nodesKey } = this.#commands
    const unknown: string[] = []
    for (const [nodeId, tenantIds] of tenantsOfNode) {
      await redis.sadd(this.#commands.tenantsKey(nodeId), ...tenantIds)
      if (living.includes(nodeId)) continue
      unknown.push(nodeId)
      const since = this.#unknown.get(nodeId) ?? this.#lease.now
      this.#unknown.set(nodeId, since)
      if (this.#lease.now - since < this.#times.nodeTimeout) continue
      await redis.zaddIfAbsent(nodesKey, 1, nodeId)
    }
    return unknown
  }
}
