import { Type, type Static } from '@sinclair/typebox'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { Id, withIds } from '../../lib/id-schemas.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey, type UserRef } from '../../lib/keys.js'
import { encodeFrame } from '../../lib/wire/protocol.js'

const RPC = 'conversations.toOwn'

/** An event for one user's connections on one node, except connections that are subscribed to a channel. */
const ToOwn = Type.Object({
  tenantId: Id,
  userId: Id,
  connectionIds: Type.Array(Type.String()),
  unless: Type.String(),
  event: Type.String(),
  data: Type.Record(Type.String(), Type.Unknown())
})
type ToOwn = Static<typeof ToOwn>

/** Sends an event to the connections of a user that do not get it on a channel, on every node. */
export class OwnConnections {
  readonly #internals: Internals

  constructor (internals: Internals) {
    this.#internals = internals
    const schema = withIds(ToOwn, internals.ids.kind)
    internals.rpc.handle(RPC, async (data) => { this.#toLocal(checkedData(schema, data)) })
  }

  async send (user: UserRef, unless: string, { event, data, excludeConnectionId }: { event: string, data: Record<string, unknown>, excludeConnectionId: string | null }): Promise<void> {
    const { roster, rpc, nodeId: ownNode } = this.#internals
    // While Redis is away, other nodes cannot be reached.
    const connections = await roster.connectionsOf(user.tenantId, user.userId).catch(() => [])
    const byNode = new Map<string, string[]>()
    for (const { connectionId, nodeId } of connections) {
      if (nodeId !== null && connectionId !== excludeConnectionId) byNode.set(nodeId, [...byNode.get(nodeId) ?? [], connectionId])
    }
    for (const [nodeId, connectionIds] of byNode) {
      const message: ToOwn = { ...user, connectionIds, unless, event, data }
      if (nodeId === ownNode) this.#toLocal(message)
      else rpc.call(nodeId, RPC, message).catch(() => {}) // ephemeral: that node is gone
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
