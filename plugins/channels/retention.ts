import { MESSAGE_TYPES } from '../../lib/conversation-keys.js'
import type { NewEvent } from '../../lib/event-log/index.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'

/** Returns the days for which an event is kept: `null` forever, `undefined` for the default. */
export type Retention = (tenantId: Id, channel: string, event: string) => number | null | undefined

const MESSAGES: ReadonlySet<string> = new Set(MESSAGE_TYPES)

/** The retention of an event that is about to be stored. If the host's function fails, or returns an invalid number, the default applies. */
export function retentionOf (internals: Pick<Internals, 'conversations'>, retention: Retention | undefined): (event: NewEvent) => number | null | undefined {
  const ofHost = ({ tenantId, channel, type }: NewEvent): number | null | undefined => {
    if (retention === undefined) return undefined
    try {
      const days = retention(tenantId, channel, type)
      return days === null || (Number.isInteger(days) && Number(days) > 0) ? days : undefined
    } catch {
      return undefined
    }
  }
  return (event) => {
    const days = ofHost(event)
    return days === undefined && internals.conversations !== null && MESSAGES.has(event.type) ? null : days
  }
}
