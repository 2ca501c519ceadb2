import type { AccessEntry } from '../../lib/access/store.js'
import type { AccessResult } from '../../lib/access/log.js'
import type { Realtime } from '../../lib/core.js'
import type { LocalConnection } from '../../lib/frame-router.js'
import { CloseCode } from '../../lib/protocol.js'

/** What a ban or a revocation does to the sockets of this node: those that it refuses are closed, with the code that says why. */
export function closeRefused ({ accessLog, restrictions, local, events }: Realtime): void {
  const close = async ({ tenantId, userId }: AccessEntry): Promise<AccessResult> => {
    let connections = 0
    for (const connection of [...local.values()]) {
      const { identity } = connection
      if (identity.tenantId !== tenantId || (userId !== null && identity.userId !== userId)) continue
      if (endIfRefused(restrictions, connection)) connections++
    }
    return { connections, complete: true }
  }
  accessLog.on('ban', async (entry) => {
    const result = await close(entry)
    if (entry.userId !== null) events.emit('banned', { tenantId: entry.tenantId, userId: entry.userId, until: entry.until, reason: entry.reason })
    return result
  })
  accessLog.on('revoke', async (entry) => {
    const result = await close(entry)
    events.emit('revoked', { tenantId: entry.tenantId, userId: entry.userId, tokenId: entry.tokenId, until: entry.until })
    return result
  })
}

/** Closes a connection whose user is banned or whose credentials were revoked. True: it was. */
export function endIfRefused (restrictions: Realtime['restrictions'], connection: LocalConnection): boolean {
  const refusal = restrictions.refusal(connection.identity, connection.authenticatedAt)
  if (refusal === null) return false
  connection.close(refusal.code === 'RT_BANNED' ? CloseCode.forbidden : CloseCode.unauthenticated, refusal.message.slice(0, 100))
  return true
}
