import { Type } from '@sinclair/typebox'
import { withTimeout } from '../../lib/async/with-timeout.js'
import { callNodes } from '../../lib/backplane/call-nodes.js'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { withIds } from '../../lib/id-schemas.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
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
/** Deadlines in milliseconds after the call, for the responses of the roster, of the nodes, and of all other sources. Later responses are ignored. */
const [LISTED_BY_MS, ANSWERED_BY_MS, KNOWN_BY_MS] = [800, 1500, 1900]

/** Lists the connections of a user with their channels, as reported by the nodes of the sockets. */
export class Inspection {
  readonly #internals: Internals
  readonly #store: ConnectionStore

  constructor (internals: Internals, store: ConnectionStore) {
    this.#internals = internals
    this.#store = store
    const schema = withIds(UserOfTenant, internals.ids.kind)
    internals.rpc.handle(OF, async (data) => {
      const { tenantId, userId } = checkedData(schema, data)
      return this.#here(tenantId, userId)
    })
  }

  /** Every connection of a user, the oldest first, including connections missing from the roster. Resolves within 2 s. */
  async of (tenantId: Id, userId: Id): Promise<ConnectionDescription[]> {
    const { nodeId, roster, rpc } = this.#internals
    const began = performance.now()
    const by = async <T, U>(ms: number, work: Promise<T>, otherwise: U): Promise<T | U> =>
      await withTimeout(work, began + ms - performance.now(), () => new Error('no answer')).catch(() => otherwise)
    // While Redis is away, only the connections of this node are known.
    const [listed, alive] = await Promise.all([by(LISTED_BY_MS, roster.connectionsOf(tenantId, userId), []), by(LISTED_BY_MS, roster.aliveNodes(), [])])
    const nodes = new Set([...alive, ...listed.flatMap((entry) => entry.nodeId ?? [])])
    nodes.delete(nodeId)
    const answers = new Map<string, ConnectionDescription[]>([[nodeId, this.#here(tenantId, userId)]])
    const timeout = began + ANSWERED_BY_MS - performance.now()
    for (const [node, found] of await callNodes(rpc, nodes, { op: OF, data: { tenantId, userId }, timeout })) {
      if (Array.isArray(found)) answers.set(node, found as ConnectionDescription[]) // a node of this version, or nothing
    }
    const found = new Map([...answers.values()].flat().map((one) => [one.connectionId, one]))
    // If a node responded, its result is complete.
    const others = listed.filter((entry) => !found.has(entry.connectionId) && (entry.nodeId === null || !answers.has(entry.nodeId)))
    if (others.length > 0) {
      const addresses = await by(KNOWN_BY_MS, this.#store.addresses(tenantId, others.map(({ connectionId }) => connectionId)), null)
      await Promise.all(others.map(async ({ connectionId, nodeId: node, device, connectedAt }) => {
        // For a connection without a socket, Redis has the requested channels; for a socket, only its node knows the channels.
        const channels = node === null ? await by(KNOWN_BY_MS, roster.channels(tenantId, connectionId), null) : null
        found.set(connectionId, { connectionId, nodeId: node, device, ipAddress: addresses?.get(connectionId) ?? null, connectedAt, channels })
      }))
    }
    return [...found.values()].toSorted((a, b) => a.connectedAt - b.connectedAt)
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
