import type { FastifyBaseLogger } from 'fastify'
import { isYes } from '../../lib/access/access.js'
import { EFFECT_WITHIN, type AccessResult } from '../../lib/access/log.js'
import type { AccessEntry } from '../../lib/access/store.js'
import { catchMaybe } from '../../lib/async/maybe-promise.js'
import { withTimeout } from '../../lib/async/with-timeout.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey } from '../../lib/keys.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import type { Members } from './members.js'
import type { Subscribed, Unsubscribed } from './schemas.js'

/**
 * Applies the host's decisions about channels to the connections of this node: `join` subscribes, `kick` unsubscribes, and
 * `recheck` calls `authorize` again for existing subscriptions. Each runs between the frames of its connection, so that it also
 * applies to a subscription in progress.
 */
export function channelDecisions (internals: Internals, members: Members, log: FastifyBaseLogger): void {
  const { accessLog, access, eventLog, bus, localConnections, metrics, roster } = internals

  const concerned = ({ tenantId, userId }: AccessEntry): LocalConnection[] => [...localConnections.values()]
    .filter((one) => !one.closed && one.identity.tenantId === tenantId && (userId === null || one.identity.userId === userId))

  /** Connections of a user without a socket belong to no node: the node that was called applies the decision to them. */
  const registered = async ({ tenantId, userId }: AccessEntry, isOwn: boolean, task: (connectionId: string) => Promise<boolean>): Promise<AccessResult> => {
    if (!isOwn || userId === null) return { connections: 0, complete: true }
    const all = async (): Promise<AccessResult> => {
      const entries = (await roster.connectionsOf(tenantId, userId)).filter(({ nodeId }) => nodeId === null)
      const done = await Promise.all(entries.map(async ({ connectionId }) => await task(connectionId)))
      return { connections: done.filter(Boolean).length, complete: true }
    }
    try {
      return await withinDeadline(all())
    } catch (err) {
      log.debug({ err }, 'the roster does not know which connections have no socket')
      return { connections: 0, complete: false }
    }
  }

  const revoke = (connection: LocalConnection, channel: string): void => {
    const { tenantId, userId } = connection.identity
    connection.leave(channel)
    sendRevoked(connection, channel)
    metrics.evicted++
    bus.emit('evicted', { tenantId, userId, connectionId: connection.id, channel })
  }

  /**
   * Runs a task for each connection, between that connection's frames, and first `atOnce` for connections with frames in
   * progress; both return whether the connection is affected. If a task fails, or the frames wait for the host for too long, the
   * result is incomplete.
   */
  const forEach = async (
    connections: LocalConnection[], task: (connection: LocalConnection) => Promise<boolean>, atOnce?: (waiting: LocalConnection) => boolean
  ): Promise<AccessResult> => {
    let [concerned, failed] = [0, 0]
    const tasks = connections.map(async (connection) => {
      let begun = false
      const done = connection.runInOrder(async () => {
        begun = true
        return !connection.closed && await task(connection)
      })
      // Its frames may wait for a host function for seconds.
      const isCounted = !begun && atOnce?.(connection) === true
      if (isCounted) concerned++
      const isConcerned = await done.catch((err: unknown) => {
        log.debug({ err, connection_id: connection.id }, 'A decision about a connection waits for its frames')
        failed++
        return true
      })
      if (isConcerned && !isCounted) concerned++
    })
    const allDone = await withinDeadline(Promise.all(tasks)).then(() => true, () => false)
    return { connections: concerned, complete: allDone && failed === 0 }
  }

  accessLog.on('join', async (entry, isOwn) => {
    const { channel } = entry
    if (channel === null) return NOBODY
    return await sum(registered(entry, isOwn, async (connectionId) => await roster.addChannel(entry.tenantId, connectionId, channel, Number.MAX_SAFE_INTEGER)), forEach(concerned(entry), async (connection) => {
      if (connection.channels.has(channel)) return true
      const joining = await connection.join(channel)
      const position = await catchMaybe(() => eventLog.replays.position(channelKey(entry.tenantId, channel)), () => 0)
      const room = await members.enter(connection, channel)
      const data: Subscribed = { channel, position, epoch: eventLog.epoch.current, ...room }
      connection.send(encodeFrame('subscribed', data))
      if (room !== null) members.discardOlder(joining, room)
      connection.begin(joining)
      return true
    }))
  })

  accessLog.on('kick', async (entry, isOwn) => {
    const { channel } = entry
    if (channel === null) return NOBODY
    const withoutSocket = registered(entry, isOwn, async (connectionId) => {
      const had = (await roster.channels(entry.tenantId, connectionId)).includes(channel)
      if (had) await roster.removeChannel(entry.tenantId, connectionId, channel)
      return had
    })
    const early = new Set<LocalConnection>()
    const kicked = forEach(concerned(entry), async (connection) => {
      if (connection.channels.has(channel)) revoke(connection, channel)
      // The reply of a subscription in progress was sent after the first `unsubscribed`, so it is sent again.
      else if (early.has(connection)) sendRevoked(connection, channel)
      else return false
      return true
    }, (waiting) => {
      if (!waiting.channels.has(channel)) return false
      early.add(waiting)
      revoke(waiting, channel)
      return true
    })
    return await sum(withoutSocket, kicked)
  })

  /** Calls `authorize` again for the subscriptions of a connection. Throws if the host fails: then nothing is revoked. */
  const recheck = async (connection: LocalConnection, only: string | null): Promise<boolean> => {
    const channels = [...connection.channels].filter((channel) => !connection.isAutomatic(channel) && (only === null || channel === only))
    if (channels.length === 0) return false
    const outcomes = await access.verdicts({ identity: connection.identity, connectionId: connection.id, owner: connection }, channels)
    for (const [i, channel] of channels.entries()) {
      const outcome = outcomes[i]
      if (outcome?.status === 'fulfilled' && !isYes(outcome.value) && connection.channels.has(channel)) revoke(connection, channel)
    }
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return true
  }

  accessLog.on('recheck', async (entry) => await forEach(concerned(entry), async (connection) => await recheck(connection, entry.channel)))

  // Newer credentials may allow less. If the host fails, subscriptions are kept, and the next renewal checks them again.
  bus.on('renewed', (connection) => { void forEach([connection], async () => await recheck(connection, null)) })
}

function sendRevoked (connection: LocalConnection, channel: string): void {
  const data: Unsubscribed = { channel, reason: 'revoked' }
  connection.send(encodeFrame('unsubscribed', data))
}

const NOBODY: AccessResult = { connections: 0, complete: true }

/** Work that is not done in time continues, but is not counted. */
const withinDeadline = async <T>(work: Promise<T>): Promise<T> => await withTimeout(work, EFFECT_WITHIN, () => new Error('still under way'))

/** Runs in parallel, so that local connections do not wait for Redis. */
async function sum (...parts: Array<Promise<AccessResult>>): Promise<AccessResult> {
  const results = await Promise.all(parts)
  return { connections: results.reduce((total, { connections }) => total + connections, 0), complete: results.every(({ complete }) => complete) }
}
