import type { Internals } from '../../lib/internals.js'
import { connectionKey, type UserRef } from '../../lib/keys.js'
import { encodeFrame } from '../../lib/wire/protocol.js'

const RPC = 'conversations.toOwn'

/** What one user's connections on one node are sent, except those that are subscribed to a channel. */
interface ToOwn extends UserRef { connectionIds: string[], unless: string, event: string, data: object }

/** Sends an event to those connections of a user that do not get it by a channel, on every node. */
export class OwnConnections {
  readonly #internals: Internals

  constructor (internals: Internals) {
    this.#internals = internals
    internals.rpc.handle(RPC, async (data) => { this.#toLocal(data as ToOwn) })
  }

  async send (user: UserRef, unless: string, { event, data, excludeConnectionId }: { event: string, data: object, excludeConnectionId: string | null }): Promise<void> {
    const { roster, rpc, nodeId: ownNode } = this.#internals
    // While Redis is away, other nodes cannot be reached.
    const connections = await roster.connectionsOf(user.tenantId, user.userId).catch(() => [])
    const byNode = new Map<string, string[]>()
    for (const { connectionId, nodeId } of connections) {
      if (nodeId !== null && connectionId !== excludeConnectionId) byNode.set(nodeId, [...byNode.get(nodeId) ?? [], connectionId])
    }
    for (const [nodeId, connectionIds] of byNode) {
      const told: ToOwn = { ...user, connectionIds, unless, event, data }
      if (nodeId === ownNode) this.#toLocal(told)
      else rpc.call(nodeId, RPC, told).catch(() => {}) // ephemeral: that node is gone
    }
  }

  #toLocal ({ tenantId, userId, connectionIds, unless, event, data }: ToOwn): void {
    for (const id of connectionIds) {
      const connection = this.#internals.localConnections.get(connectionKey(tenantId, id))
      if (connection === undefined || connection.closed || connection.identity.userId !== userId || connection.channels.has(unless)) continue
      connection.send(encodeFrame(event, data))
    }
  }
}
