import type { AccessResult } from '../../lib/access/log.js'
import type { AccessEntry } from '../../lib/access/store.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Internals } from '../../lib/internals.js'
import { CloseCode } from '../../lib/wire/close-codes.js'

/** What a ban or a revocation does to the sockets of this node: those that it refuses are closed, with the code that says why. */
export function closeRefused ({ accessLog, restrictions, localConnections, bus }: Internals): void {
  const close = async ({ tenantId, userId }: AccessEntry): Promise<AccessResult> => {
    let connections = 0
    for (const connection of [...localConnections.values()]) {
      const { identity } = connection
      if (identity.tenantId !== tenantId || (userId !== null && identity.userId !== userId)) continue
      if (endIfRefused(restrictions, connection)) connections++
    }
    return { connections, complete: true }
  }
  accessLog.on('ban', async (entry) => {
    const result = await close(entry)
    if (entry.userId !== null) bus.emit('banned', { tenantId: entry.tenantId, userId: entry.userId, until: entry.until, reason: entry.reason })
    return result
  })
  accessLog.on('revoke', async (entry) => {
    const result = await close(entry)
    bus.emit('revoked', { tenantId: entry.tenantId, userId: entry.userId, tokenId: entry.tokenId, until: entry.until })
    return result
  })
}

/** Closes a connection whose user is banned or whose credentials were revoked. True: it was. */
export function endIfRefused (restrictions: Internals['restrictions'], connection: LocalConnection): boolean {
  const refusal = restrictions.refusal(connection.identity, connection.authenticatedAt)
  if (refusal === null) return false
  connection.close(refusal.code === 'RT_BANNED' ? CloseCode.forbidden : CloseCode.unauthenticated, refusal.message.slice(0, 100))
  return true
}
