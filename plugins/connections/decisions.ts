import { isYes } from '../../lib/access/access.js'
import { EFFECT_WITHIN, type AccessResult } from '../../lib/access/log.js'
import type { Reason } from '../../lib/access/restrictions.js'
import type { AccessEntry } from '../../lib/access/store.js'
import { withTimeout } from '../../lib/async/with-timeout.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import { messageOf } from '../../lib/errors.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { CloseCode } from '../../lib/wire/close-codes.js'

/**
 * Applies bans and revocations to the connections of this node: refused ones are closed, with the code for the reason.
 * `endRegistered` ends the connections of a user without a socket, which belong to no node.
 */
export function closeRefused (
  { accessLog, restrictions, localConnections }: Internals, endRegistered: (tenantId: Id, userId: Id) => Promise<number>
): void {
  const close = ({ tenantId, userId }: AccessEntry): number => {
    let connections = 0
    for (const connection of [...localConnections.values()]) {
      if (connection.closed) continue
      const { identity } = connection
      if (identity.tenantId !== tenantId || (userId !== null && identity.userId !== userId)) continue
      if (endIfRefused(restrictions, connection) !== null) connections++
    }
    return connections
  }
  accessLog.on('ban', async (entry, isOwn): Promise<AccessResult> => {
    if (!isOwn || entry.userId === null) return { connections: close(entry), complete: true }
    // Called before the sockets close, because Redis would respond only after their departures.
    const registered = withTimeout(endRegistered(entry.tenantId, entry.userId), EFFECT_WITHIN, () => new Error('no answer')).catch(() => null)
    const closed = close(entry)
    // They are unknown while Redis is away. They expire, because banned users cannot send heartbeats for them.
    const ended = await registered
    return { connections: closed + (ended ?? 0), complete: ended !== null }
  })
  accessLog.on('revoke', async (entry): Promise<AccessResult> => ({ connections: close(entry), complete: true }))
}

/** Opens a connection with the channels and watches that were requested by REST before its socket. */
export async function openKnown<Opened extends { live: () => void }> (
  internals: Internals, connection: LocalConnection, open: (channels: readonly string[]) => Promise<Opened>
): Promise<Opened> {
  const [channels, beginWatches] = await Promise.all([channelsStillAllowed(internals, connection), internals.beginWatches?.(connection)])
  const opened = await open(channels)
  return {
    ...opened,
    live: () => {
      opened.live()
      beginWatches?.()
    }
  }
}

/** The requested channels that the host still allows. Never rejects. */
async function channelsStillAllowed ({ access, roster }: Internals, connection: LocalConnection): Promise<readonly string[]> {
  const { identity, id } = connection
  const channels = await roster.channels(identity.tenantId, id).catch(() => [])
  const outcomes = await access.verdicts({ identity, connectionId: id, owner: connection }, channels)
  return channels.filter((_, i) => {
    const outcome = outcomes[i]
    // If the host fails now, its earlier permission holds, as in a recheck.
    return outcome === undefined || outcome.status === 'rejected' || isYes(outcome.value)
  })
}

/** Closes a connection whose user is banned or whose credentials were revoked, and returns why; null: neither. */
export function endIfRefused (restrictions: Internals['restrictions'], connection: LocalConnection): Reason | null {
  const refusal = restrictions.reason(connection.identity, connection.authenticatedAt)
  if (refusal === null) return null
  const { code, message } = refusal
  const text = message ?? messageOf(code)
  connection.close(code === 'RT_BANNED' ? CloseCode.forbidden : CloseCode.unauthenticated, Buffer.byteLength(text) > MAX_REASON_BYTES ? shortened(text) : text)
  return refusal
}

/** Maximum size of the reason in a close frame. */
const MAX_REASON_BYTES = 120

const shortened = (text: string): string => Buffer.from(text).subarray(0, MAX_REASON_BYTES).toString().replace(/\uFFFD+$/, '')
