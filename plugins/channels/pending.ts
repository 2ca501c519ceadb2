import type { FastifyBaseLogger } from 'fastify'
import type { Realtime } from '../../lib/core.js'
import type { LocalConnection } from '../../lib/frame-router.js'

/** Pause before asking again when the database did not answer; as long as the connection lives. */
const RETRY = 2000

/** Sends a user who connects what waited for them. */
export function sendPending (realtime: Realtime, log: FastifyBaseLogger): void {
  const send = async (connection: LocalConnection): Promise<void> => {
    const { tenantId, userId } = connection.identity
    const { eventLog } = realtime
    const events = await eventLog.pendingFor(tenantId, userId)
    if (events.length === 0) return
    await connection.replay(events.map((event) => eventLog.encode(event)))
    await eventLog.outbox.wereSent(events)
  }

  const attempt = (connection: LocalConnection): void => {
    if (connection.closed) return
    send(connection).catch((err: unknown) => {
      log.debug({ err, connection_id: connection.id }, 'pending events wait for the database')
      setTimeout(() => { attempt(connection) }, RETRY).unref()
    })
  }
  realtime.events.on('opened', attempt)
}
