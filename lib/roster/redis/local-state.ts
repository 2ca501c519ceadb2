import type { RosterConnection, Presence } from '../contract.js'

/** A socket of this node. */
export interface Held {
  readonly entry: RosterConnection
  /** By the clock of the shared roster, so that it can be compared with a socket of another node. */
  readonly openedAt: number
  /** The shared roster was told of it. */
  isInRedis: boolean
}

interface HeldUser {
  connections: number
  /** Others know that the user is online. */
  told: boolean
  /** What the user said, here or elsewhere; null: nothing, or that is not known. */
  said: Presence | null
  /** The first connection of all came to this node: what was said before is void. */
  first: boolean
}

interface TenantHoldings {
  readonly entries: Map<string, Held>
  readonly users: Map<number, HeldUser>
}

type Key = Pick<RosterConnection, 'tenantId' | 'connectionId'>
type UserKey = Pick<RosterConnection, 'tenantId' | 'userId'>

/**
 * What this node holds of its own, beside the shared roster: enough to make that right again, whatever it lost.
 */
export class LocalState {
  readonly #tenants = new Map<number, TenantHoldings>()
  /** Left while nobody could be told; to be removed from the shared roster when it is back. */
  readonly #departures = new Map<string, RosterConnection>()
  #size = 0
  #unwritten = 0

  /** `told`: others know that the user is online, or are told now. `first`: now. */
  add (held: Held, { told, first }: { told: boolean, first: boolean }): void {
    const { tenantId, userId, connectionId } = held.entry
    const tenant = this.#tenants.get(tenantId) ?? { entries: new Map<string, Held>(), users: new Map<number, HeldUser>() }
    this.#tenants.set(tenantId, tenant)
    const before = tenant.entries.get(connectionId)
    const user = tenant.users.get(userId) ?? { connections: 0, told: false, said: null, first: false }
    tenant.users.set(userId, user)
    user.connections++
    user.told ||= told
    user.first ||= first
    if (before !== undefined) this.#release(tenant, before)
    tenant.entries.set(connectionId, held)
    this.#size++
    if (!held.isInRedis) this.#unwritten++
    this.#departures.delete(keyOf(held.entry))
  }

  get ({ tenantId, connectionId }: Key): Held | undefined {
    return this.#tenants.get(tenantId)?.entries.get(connectionId)
  }

  /** Forgets an entry of this generation, and the user with the last one: `gone` is what was known of them then. */
  remove (key: Key & Pick<RosterConnection, 'generation'>): { entry: RosterConnection, gone: Pick<HeldUser, 'told' | 'said'> | null } | null {
    const tenant = this.#tenants.get(key.tenantId)
    const held = tenant?.entries.get(key.connectionId)
    if (tenant === undefined || held === undefined || held.entry.generation !== key.generation) return null
    tenant.entries.delete(key.connectionId)
    const user = tenant.users.get(held.entry.userId)
    this.#release(tenant, held)
    if (tenant.entries.size === 0) this.#tenants.delete(key.tenantId)
    return { entry: held.entry, gone: user?.connections === 0 ? user : null }
  }

  /** `first`: the user is told online for it. */
  wasWritten (held: Held, first: boolean): void {
    if (!held.isInRedis && this.get(held.entry) === held) this.#unwritten--
    held.isInRedis = true
    const user = this.#user(held.entry)
    if (user === undefined) return
    user.told = true
    user.first ||= first
  }

  /** The user has a connection here. */
  has (key: UserKey): boolean {
    return this.#user(key) !== undefined
  }

  /** Others know that the user is online. */
  isTold (key: UserKey): boolean {
    return this.#user(key)?.told ?? false
  }

  /** Kept for users with a connection here; the others' is the shared roster's to keep. */
  say (key: UserKey, presence: Presence): void {
    const user = this.#user(key)
    if (user !== undefined) user.said = presence
  }

  said (key: UserKey): Presence | null {
    return this.#user(key)?.said ?? null
  }

  /** The user is known to have said nothing since the first connection, which came to this node. */
  isFirst (key: UserKey): boolean {
    return this.#user(key)?.first ?? false
  }

  get tenantIds (): IterableIterator<number> {
    return this.#tenants.keys()
  }

  /** The sockets of one tenant. Safe to go on with after some were added or removed. */
  in (tenantId: number): Iterable<Held> {
    return this.#tenants.get(tenantId)?.entries.values() ?? []
  }

  sizeOf (tenantId: number): number {
    return this.#tenants.get(tenantId)?.entries.size ?? 0
  }

  get size (): number {
    return this.#size
  }

  get unwritten (): Held[] {
    if (this.#unwritten === 0) return []
    return [...this.#tenants.keys()].flatMap((tenantId) => [...this.in(tenantId)].filter(({ isInRedis }) => !isInRedis))
  }

  queueDeparture (entry: RosterConnection): void {
    this.#departures.set(keyOf(entry), entry)
  }

  mourns (entry: Key & Pick<RosterConnection, 'generation'>): boolean {
    return this.#departures.get(keyOf(entry))?.generation === entry.generation
  }

  departureWritten (entry: RosterConnection): void {
    if (this.#departures.get(keyOf(entry)) === entry) this.#departures.delete(keyOf(entry))
  }

  get departures (): RosterConnection[] {
    return [...this.#departures.values()]
  }

  #user ({ tenantId, userId }: UserKey): HeldUser | undefined {
    return this.#tenants.get(tenantId)?.users.get(userId)
  }

  #release (tenant: TenantHoldings, { entry, isInRedis }: Held): void {
    this.#size--
    if (!isInRedis) this.#unwritten--
    const user = tenant.users.get(entry.userId)
    if (user !== undefined && --user.connections === 0) tenant.users.delete(entry.userId)
  }
}

const keyOf = ({ tenantId, connectionId }: Key): string => `${tenantId}/${connectionId}`
