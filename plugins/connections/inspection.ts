import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { callNodes } from '../../lib/backplane/call-nodes.js'
import { RealtimeError } from '../../lib/errors.js'
import { withIds } from '../../lib/id-schemas.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { RosterConnection } from '../../lib/roster/contract.js'
import { Id as IdSchema, type Device } from '../../lib/schemas.js'
import { Connection } from './connection.js'
import type { ConnectionStore } from './store.js'

/** One connection of a user, as support staff see it. */
export interface ConnectionDescription {
  connectionId: string
  /** The node of the socket; null if it was registered by REST and has no socket. */
  nodeId: string | null
  device: Device
  /** Null if neither its node nor the history has it. */
  ipAddress: string | null
  /** Milliseconds since 1970. */
  connectedAt: number
  /** Null if its node did not respond. */
  channels: string[] | null
}

const UserOfTenant = Type.Object({ tenantId: IdSchema, userId: IdSchema })
const OF = 'connections.of'
/** Time for another node to respond. */
const RESPONSE_TIMEOUT_MS = 1800

/** Lists the connections of a user with their channels, as reported by the nodes of the sockets. */
export class Inspection {
  readonly #internals: Internals
  readonly #store: ConnectionStore

  constructor (internals: Internals, store: ConnectionStore) {
    this.#internals = internals
    this.#store = store
    const schema = withIds(UserOfTenant, internals.ids.kind)
    internals.rpc.handle(OF, async (data) => {
      if (!Value.Check(schema, data)) throw new RealtimeError('RT_INVALID_DATA')
      return this.#here(data.tenantId, data.userId)
    })
  }

  /** Every connection of a user, the oldest first, also those that the roster does not know. Resolves within 2 s. */
  async of (tenantId: Id, userId: Id): Promise<ConnectionDescription[]> {
    const { nodeId, roster } = this.#internals
    // While Redis is unavailable only the connections of this node are known.
    const [listed, alive] = await Promise.all([roster.connectionsOf(tenantId, userId).catch(() => []), roster.aliveNodes().catch(() => [])])
    const nodes = new Set([...alive, ...listed.flatMap((entry) => entry.nodeId ?? [])])
    nodes.delete(nodeId)
    const answers = new Map<string, ConnectionDescription[]>([[nodeId, this.#here(tenantId, userId)]])
    for (const [node, found] of await callNodes(this.#internals.rpc, nodes, { op: OF, data: { tenantId, userId }, timeout: RESPONSE_TIMEOUT_MS })) {
      if (Array.isArray(found)) answers.set(node, found as ConnectionDescription[]) // nodes of another version may return something else
    }
    const found = new Map([...answers.values()].flat().map((one) => [one.connectionId, one]))
    // If a node responded, its result is complete.
    const others = listed.filter((entry) => !found.has(entry.connectionId) && (entry.nodeId === null || !answers.has(entry.nodeId)))
    for (const one of await this.#unanswered(tenantId, others)) found.set(one.connectionId, one)
    return [...found.values()].toSorted((a, b) => a.connectedAt - b.connectedAt)
  }

  /** Connections without a socket, and those whose node did not respond. */
  async #unanswered (tenantId: Id, entries: RosterConnection[]): Promise<ConnectionDescription[]> {
    if (entries.length === 0) return []
    const addresses = await this.#store.addresses(tenantId, entries.map(({ connectionId }) => connectionId))
    return await Promise.all(entries.map(async ({ connectionId, nodeId, device, connectedAt }) => {
      const channels = nodeId === null ? [...await this.#internals.roster.channels(tenantId, connectionId).catch(() => [])] : null
      return { connectionId, nodeId, device, ipAddress: addresses.get(connectionId) ?? null, connectedAt, channels }
    }))
  }

  #here (tenantId: Id, userId: Id): ConnectionDescription[] {
    const { nodeId, localConnections } = this.#internals
    const found: ConnectionDescription[] = []
    for (const connection of localConnections.values()) {
      if (!(connection instanceof Connection) || connection.phase.name !== 'open') continue
      const { identity, connectionId, connectedAt } = connection.phase.session
      if (identity.tenantId !== tenantId || identity.userId !== userId) continue
      const { device, ipAddress } = connection.client
      found.push({ connectionId, nodeId, device, ipAddress, connectedAt, channels: [...connection.channels] })
    }
    return found
  }
}
