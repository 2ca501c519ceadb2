import { randomBytes } from 'node:crypto'
import { toIso, type Clock } from '../clock.js'
import { conversationOf, editsOf } from '../conversation-keys.js'
import type { Ids } from '../ids.js'
import { wellFormedJson } from '../wire/well-formed.js'
import { clientKey } from './client-key.js'
import type { EventType, NewEvent } from './contract.js'
import type { EventRow } from './inserts.js'
import { RETRY_DELAYS_MS } from './next-step.js'
import type { Retentions } from './retentions.js'

export interface NewRowsOptions {
  ids: Ids
  clock: Clock
  retentions: Retentions
  typeOf (name: string): EventType
  /** Throws `RT_INVALID_DATA` if a payload is too large for its readers. */
  requireSize (payload: string): void
  /** Age of an unconfirmed event, in milliseconds, at which `waiting` is emitted. */
  waitingAfter (): number
}

/** The rows of new events. */
export class NewRows {
  /** The days for which an event is kept; null: forever, undefined: the option `retentionDays`. Set by the channels plugin. */
  retentionOf: (event: NewEvent) => number | null | undefined = () => undefined
  readonly #options: NewRowsOptions
  /** The beginning of this node's own dedupe keys: short, because an index contains them, and unique to this process. */
  readonly #ownKeys = `n:${randomBytes(12).toString('base64url')}:`
  #serial = 0

  constructor (options: NewRowsOptions) {
    this.#options = options
  }

  /** With `isDue` the sweeper publishes it at once. */
  of (event: NewEvent, isDue: boolean): EventRow {
    const { ids, clock, retentions, requireSize } = this.#options
    const { tenantId, userId, type, channel, data, dedupeId, change = null, createdAt = clock.now() } = event
    const payload = withTimestamp(data, toIso(createdAt))
    requireSize(payload)
    return {
      tenantId,
      userId,
      type,
      channel,
      payload,
      createdAt,
      // Keys of clients and of nodes have different prefixes, so that a client cannot guess a node's.
      dedupeId: dedupeId === undefined ? `${this.#ownKeys}${this.#serial++}` : clientKey(dedupeId),
      dueAt: isDue ? createdAt : createdAt + this.#firstLook(type),
      conversation: change === null ? conversationOf(ids, event) : change.content === null ? null : editsOf(change.targetId),
      retentionDays: retentions.columnOf(this.retentionOf(event)),
      change
    }
  }

  #firstLook (type: string): number {
    const [retry] = RETRY_DELAYS_MS
    return this.#options.typeOf(type).requiresConfirmation === true ? Math.min(retry, this.#options.waitingAfter()) : retry
  }
}

/** The JSON of an event's data with its time, which is added to the text: copying the data would cost more than everything else here. */
function withTimestamp (data: Record<string, unknown>, timestamp: string): string {
  if ('timestamp' in data) return wellFormedJson({ ...data, timestamp })
  const text = wellFormedJson(data)
  return `${text.slice(0, -1)}${text === '{}' ? '' : ','}"timestamp":"${timestamp}"}`
}

/** An event as it was stored: an edit without data has those of the message. */
export function asStored<Data extends object> ({ tenantId, userId, type, channel, change, payload }: EventRow, data: Data) {
  const isEdit = change !== null && change.content !== null
  return { tenantId, userId, type, channel, data: isEdit ? { ...data, ...JSON.parse(payload) as Data } : data }
}
