import { privateChannel } from '../../lib/channel-names.js'
import type { Joining } from '../../lib/delivery/joining.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import type { Connection } from './connection.js'
import type { Connections } from './connections.js'
import type { Authenticated } from './schemas.js'

/** A stream that authenticated: the channels of every connection, and the data of its first event. */
export interface OpenStream {
  joined: ReadonlyMap<string, Joining>
  describe: () => Authenticated
}

/**
 * Registers a stream as the connection `connectionId`, like `Connections.open` for a socket, and subscribes the channels that every
 * connection has. `since` is for `connection.join`.
 */
export async function openStream (
  connections: Connections, { nodeId, clock, defaultChannels }: Internals, connection: Connection,
  { identity, connectionId, since }: { identity: Identity, connectionId: string, since: number }
): Promise<OpenStream> {
  const { tenantId, userId } = identity
  const now = clock.now()
  const { generation, standing } = await connections.join({ tenantId, userId, connectionId, nodeId, device: connection.client.device, connectedAt: now })
  const session = { identity, connectionId, generation, connectedAt: now, authenticatedAt: now, warned: false }
  if (connection.closed) return await connections.abandonOpen(session)
  connections.enter(connection, session)
  const channels = [privateChannel(userId), ...defaultChannels]
  const joinings = await Promise.all(channels.map(async (channel) => await connection.join(channel, since)))
  connection.onChannelsChanged(connections.record)
  connections.record(connection)
  return { joined: new Map(channels.map((channel, i) => [channel, joinings[i] as Joining])), describe: () => connections.describe(connection, standing) }
}
