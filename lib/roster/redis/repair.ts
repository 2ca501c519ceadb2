import type { RosterTimes } from '../contract.js'
import { partsOf, type Argument, type Part, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'

/** Keys that one SCAN looks at. */
const SCAN = 1000
/** Kinds of keys of which there are many in a tenant; each is looked at by itself. */
const NAMED = /^(?:of|channels|typers|node):/

/** How far the look through one tenant is: in its connections, its users, its typing; '' where it is through. */
type Cursors = [string, string, string]

/**
 * Looks through all that Redis says, for what no node corrects by itself: connections of nodes that nobody knows, users who
 * count as online without a connection, and what is left of those who are gone. It finds the tenants by the keys
 * themselves, since whatever else would name them can be evicted too. One pass takes half of the lease.
 */
export class RedisRepair {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #times: RosterTimes
  #pass: AsyncGenerator<void, void> | null = null
  #passAt = 0
  /** Calls in the last pass, and in this one. */
  #calls = { last: 0, now: 0 }
  /** Nodes that hold something and have no lease, since when. */
  readonly #unknown = new Map<string, number>()

  constructor (commands: RosterCommands, lease: Lease, times: RosterTimes) {
    this.#commands = commands
    this.#lease = lease
    this.#times = times
  }

  /** Goes through this share of the keys. */
  async repair (share: number): Promise<void> {
    // Until every node has written what it holds there is nothing to be learned here.
    if (this.#lease.isUnsettled) return
    if (this.#pass === null && share < 1 && this.#lease.now - this.#passAt < this.#times.nodeTimeout / 2) return
    let left = share < 1 ? Math.ceil(this.#calls.last * share) + 1 : Infinity
    if (this.#pass === null) {
      this.#passAt = this.#lease.now
      this.#calls = { last: this.#calls.now, now: 0 }
      this.#pass = this.#through()
    }
    for (; left > 0; left--) {
      this.#calls.now++
      if ((await this.#pass.next()).done !== true) continue
      this.#pass = null
      return
    }
  }

  /** One step at a time, each of a call or two. */
  async * #through (): AsyncGenerator<void, void> {
    const { prefix, servers } = this.#commands
    const seen = new Set<number>()
    const unknown = new Set<string>()
    for (const server of servers) {
      let cursor = '0'
      do {
        const [next, keys] = await this.#commands.attempt(async () => await server.scan(cursor, 'MATCH', `${prefix}{*}:*`, 'COUNT', SCAN))
        cursor = next
        const names = this.#byTenant(keys)
        const fresh = [...names.keys()].filter((tenantId) => !seen.has(tenantId))
        for (const tenantId of fresh) seen.add(tenantId)
        for await (const nodeIds of this.#mend(fresh)) {
          for (const nodeId of nodeIds) unknown.add(nodeId)
          yield
        }
        for (const nodeId of await this.#mendKeys(names)) unknown.add(nodeId)
        yield
      } while (cursor !== '0')
    }
    for (const nodeId of this.#unknown.keys()) if (!unknown.has(nodeId)) this.#unknown.delete(nodeId)
  }

  /** The names of the tenants' keys, of those kinds of which a tenant has many. */
  #byTenant (keys: string[]): Map<number, string[]> {
    const names = new Map<number, string[]>()
    for (const key of keys) {
      const [tenant = '', name = ''] = key.slice(this.#commands.prefix.length + 1).split(/}:(.*)/s)
      const known = names.get(Number(tenant))
      const named = NAMED.test(name) ? [name] : []
      if (known === undefined) names.set(Number(tenant), named)
      else known.push(...named)
    }
    return names
  }

  /** Yields, call by call, the nodes that hold something and are not living. */
  async * #mend (tenantIds: number[]): AsyncGenerator<string[], void> {
    let open = tenantIds.map((tenantId): Part<Cursors> => ({ tenantId, rows: [['0', '0', '0']] }))
    while (open.length > 0) {
      const living = await this.#living()
      const due: Argument[] = []
      const held = new Map<string, number[]>()
      const next: Array<Part<Cursors>> = []
      for (const { part: { tenantId }, answer } of await this.#commands.runOver('mend', [living.join(), this.#times.registrationTtl, this.#lease.patience], open, (cursors) => cursors)) {
        const [cursors, owners, soonest] = answer as [Cursors, string[], string]
        if (cursors.some((cursor) => cursor !== '')) next.push({ tenantId, rows: [cursors] })
        if (soonest !== '') due.push(soonest, tenantId)
        for (const nodeId of owners) held.set(nodeId, [...held.get(nodeId) ?? [], tenantId])
      }
      if (due.length > 0) await this.#commands.run('dueBy', this.#commands.dueKey, ...due)
      yield await this.#index(held, living)
      open = next
    }
  }

  /** Removes keys that belong to nobody. Returns the nodes that have keys and are not living. */
  async #mendKeys (names: Map<number, string[]>): Promise<string[]> {
    const parts = [...names].filter(([, named]) => named.length > 0)
      .flatMap(([tenantId, named]) => partsOf(named, () => tenantId))
    if (parts.length === 0) return []
    const living = await this.#living()
    const held = new Map<string, number[]>()
    for (const { part: { tenantId }, answer } of await this.#commands.runOver('mendKeys', [living.join()], parts, (name) => [name])) {
      for (const nodeId of answer as string[]) held.set(nodeId, [...held.get(nodeId) ?? [], tenantId])
    }
    return await this.#index(held, living)
  }

  /**
   * Sees to it that a node, or its reaper, finds each tenant in which it holds something. A node without a lease is given one
   * that is over once it was missing for as long as a lease lasts: its name may have been evicted, and then it writes it again.
   */
  async #index (held: Map<string, number[]>, living: string[]): Promise<string[]> {
    const unknown: string[] = []
    for (const [nodeId, tenantIds] of held) {
      await this.#commands.attempt(async (redis) => await redis.sadd(this.#commands.tenantsKey(nodeId), ...tenantIds))
      if (living.includes(nodeId)) continue
      unknown.push(nodeId)
      const since = this.#unknown.get(nodeId) ?? this.#lease.now
      this.#unknown.set(nodeId, since)
      if (this.#lease.now - since < this.#times.nodeTimeout) continue
      await this.#commands.attempt(async (redis) => await redis.zadd(this.#commands.nodesKey, 'NX', 1, nodeId))
    }
    return unknown
  }

  async #living (): Promise<string[]> {
    return await this.#commands.run('nodes', this.#commands.nodesKey, '0') as string[]
  }
}
