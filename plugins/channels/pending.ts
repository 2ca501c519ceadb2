import type { FastifyBaseLogger } from 'fastify'
import type { Realtime } from '../../lib/core.js'
import type { LocalConnection } from '../../lib/frame-router.js'

const NONE: ReadonlySet<number> = new Set()
/** Pause before asking again when the database did not answer; as long as the connection lives. */
const RETRY = 2000

/** Sends a user who connects what waited for them, before anything newer. */
export function sendPending (realtime: Realtime, log: FastifyBaseLogger): void {
  const { eventLog } = realtime

  const send = async (connection: LocalConnection): Promise<ReadonlySet<number>> => {
    const { tenantId, userId } = connection.identity
    const events = await eventLog.pendingFor(tenantId, userId)
    if (events.length === 0) return NONE
    await connection.replay(events.map((event) => eventLog.encode(event)))
    await eventLog.outbox.wereSent(events)
    return new Set(events.map(({ id }) => id))
  }

  const attempt = async (connection: LocalConnection): Promise<ReadonlySet<number>> => {
    if (connection.closed) return NONE
    try {
      return await send(connection)
    } catch (err) {
      // Not worth keeping newer events back: those follow when the database is back.
      log.debug({ err, connection_id: connection.id }, 'pending events wait for the database')
      setTimeout(() => { void attempt(connection) }, RETRY).unref()
      return NONE
    }
  }
  realtime.greetings.push(attempt)
}
