import type { Question } from '../../lib/access/access.js'
import { batchLoader } from '../../lib/async/batch-loader.js'
import { isPromise, thenMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { BROADCAST_CHANNEL, isReserved, privateChannel, resolveAlias } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { executorOf, type HostTransaction } from '../../lib/database/host-transaction.js'
import { RealtimeError, toRealtimeError } from '../../lib/errors.js'
import type { Confirmed, NewEvent, Receipt } from '../../lib/event-log/index.js'
import { withIds } from '../../lib/id-schemas.js'
import type { Caller, Identity } from '../../lib/identity.js'
import type { IdKind } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { faultFinder, type FaultIn, type Screening } from './before-publish.js'
import type { SendingLimits } from './sending-limits.js'
import { BroadcastData, DirectData, GroupData, NotificationData, type Delivered, type NotificationsAccepted, type StoredData } from './schemas.js'

/** The kinds of messages, by their schemas. */
const schemas = { direct: DirectData, group: GroupData, broadcast: BroadcastData, notification: NotificationData }

function faultsOf (ids: IdKind): Record<keyof typeof schemas, FaultIn> {
  const { direct, group, broadcast, notification } = withIds(schemas, ids)
  return { direct: faultFinder(direct), group: faultFinder(group), broadcast: faultFinder(broadcast), notification: faultFinder(notification) }
}

/**
 * The rules of durable events: who may send what to whom. Each answers in two steps: when the event has its place in the
 * order, which is at once where `authorize` answers at once, and `later`, when it is stored, so that the next frame need
 * not wait for the commit.
 */
export class Messages {
  readonly #internals: Internals
  readonly #screening: Screening
  readonly #limits: SendingLimits
  readonly #faults: ReturnType<typeof faultsOf>
  readonly #confirm: (key: string) => Promise<number | undefined>

  constructor (internals: Internals, screening: Screening, limits: SendingLimits) {
    this.#internals = internals
    this.#screening = screening
    this.#limits = limits
    this.#faults = faultsOf(internals.ids.kind)
    internals.eventLog.defineType('message:direct', { requiresConfirmation: true, copyToSender: true })
    internals.eventLog.defineType('notification:received', { requiresConfirmation: true })
    this.#confirm = batchLoader(async (keys) => await this.#confirmAll(keys))
  }

  /** Throws, or rejects with, `RT_FORBIDDEN`; `later` rejects with `RT_STORAGE_UNAVAILABLE`. So do the others. */
  direct (caller: Caller, data: DirectData): MaybePromise<{ later: Promise<Receipt> }> {
    const { identity, connectionId } = caller
    const { recipientId } = data
    const channel = privateChannel(recipientId)
    return thenMaybe(this.#permit(caller, { action: 'direct', event: 'message:direct', channel, data, recipientIds: [recipientId] }, this.#faults.direct),
      ({ message, conversationId, dedupeId }) => {
        const stored: StoredData<'message:direct'> = { senderId: identity.userId, message, conversationId }
        // Who writes to himself is the recipient, with every connection.
        const excludeConnectionId = recipientId === identity.userId ? null : connectionId
        return { later: this.#append(identity, excludeConnectionId, 'message:direct', channel, stored, dedupeId) }
      })
  }

  group (caller: Caller, data: GroupData): MaybePromise<{ later: Promise<Receipt> }> {
    const { identity, connectionId } = caller
    const channel = resolveAlias(data.channel, identity.userId)
    // Whatever the host allows: these channels carry what only the suite may say.
    if (isReserved(channel)) throw new RealtimeError('RT_FORBIDDEN')
    return thenMaybe(this.#permit(caller, { action: 'publish', event: 'message:group', channel, data }, this.#faults.group),
      ({ message, conversationId, dedupeId }) => {
        const stored: StoredData<'message:group'> = { userId: identity.userId, channel, message, conversationId }
        return { later: this.#append(identity, connectionId, 'message:group', channel, stored, dedupeId) }
      })
  }

  broadcast (caller: Caller, data: BroadcastData): MaybePromise<{ later: Promise<Receipt> }> {
    const { identity } = caller
    return thenMaybe(this.#permit(caller, { action: 'broadcast', event: 'broadcast:message', channel: BROADCAST_CHANNEL, data }, this.#faults.broadcast),
      ({ message, messageType = 'info', dedupeId }) => {
        const stored: StoredData<'broadcast:message'> = { message, messageType, senderId: identity.userId }
        return { later: this.#append(identity, null, 'broadcast:message', BROADCAST_CHANNEL, stored, dedupeId) }
      })
  }

  notify (caller: Caller, data: NotificationData): MaybePromise<{ later: Promise<NotificationsAccepted> }> {
    const { identity } = caller
    const { recipientIds } = data
    if (new Set(recipientIds).size < recipientIds.length) throw new RealtimeError('RT_INVALID_DATA', 'recipientIds: Expected array elements to be unique')
    const question = { action: 'notify', event: 'notification:send', channel: privateChannel(identity.userId), data, recipientIds } as const
    return thenMaybe(this.#permit(caller, question, this.#faults.notification), (screened) => ({
      later: this.storeNotifications(identity, { ...screened, recipientIds }, { patient: false }).then((all) => ({
        messageIds: all.map(({ messageId }) => messageId), timestamp: all[0]?.timestamp ?? toIso(this.#internals.clock.now())
      }))
    }))
  }

  /** The host's word on a client's event, and on its content; then it is counted. Throws, or rejects with, what `require` and `screen` do, or `RT_RATE_LIMITED`. */
  #permit<Data extends object> (caller: Caller, question: Omit<Question, 'data'> & { event: string, data: Data }, faultIn: FaultIn): MaybePromise<Data> {
    const { event, channel, data, recipientIds } = question
    return thenMaybe(this.#internals.access.require(caller, { ...question, data: data as Record<string, unknown> }),
      () => thenMaybe(this.#screening.screen(caller, event, channel, data, faultIn), (screened) => {
        const { identity } = caller
        const counted = recipientIds === undefined || question.action !== 'notify' ? this.#limits.message(identity) : this.#limits.notification(identity, recipientIds.length)
        return isPromise(counted) ? counted.then(() => screened) : screened
      }))
  }

  /** Counts a custom event. Throws, or rejects with, `RT_RATE_LIMITED`. */
  count (identity: Identity): MaybePromise<void> {
    return this.#limits.message(identity)
  }

  /**
   * One event with an id of its own for each recipient; all have one time. Rejects unless all are stored; with `patient` they
   * wait for room, however many they are.
   */
  async storeNotifications (
    { tenantId, userId }: Pick<Identity, 'tenantId' | 'userId'>,
    { recipientIds, dedupeId, title, body, icon = null, tag = null }: Omit<NotificationData, 'dedupeId'> & { dedupeId?: string | undefined },
    { patient, transaction }: { patient: boolean, transaction?: HostTransaction | undefined }
  ): Promise<Receipt[]> {
    if (!patient) this.#internals.eventLog.requireRoom(tenantId, recipientIds.length)
    const data: StoredData<'notification:received'> = { title, body, icon, tag }
    const createdAt = this.#internals.clock.now()
    const events = recipientIds.map((recipientId): NewEvent => ({
      tenantId,
      userId,
      channel: privateChannel(recipientId),
      type: 'notification:received',
      data,
      createdAt,
      dedupeId: dedupeId === undefined ? undefined : `${dedupeId}:${recipientId}`
    }))
    if (transaction !== undefined) return await Promise.all(events.map(async (event) => await this.storeFromHost(event, transaction)))
    const results = await Promise.allSettled(this.#internals.eventLog.appendAll(events, { patient }))
    const stored: Receipt[] = []
    const failures: unknown[] = []
    results.forEach((result, i) => {
      if (result.status === 'rejected') failures.push(result.reason)
      else stored.push(this.#stored(events[i] as NewEvent, result.value))
    })
    if (failures.length > 0) throw partly(stored.length, failures)
    return stored
  }

  /** The caller has it: it is not sent again, and its sender is told, once. Throws `RT_NOT_FOUND`. */
  async delivered ({ identity }: Caller, messageId: number): Promise<{ messageId: number }> {
    const { tenantId, userId } = identity
    const found = await this.#confirm(`${tenantId}/${userId}/${messageId}`)
    if (found === undefined) throw new RealtimeError('RT_NOT_FOUND', 'No message of yours has this id')
    return { messageId }
  }

  /** Stores an event and emits `message`. `declared` types are handled as their plugin declared them. */
  store (event: NewEvent): Promise<Receipt> {
    return this.#internals.eventLog.append(event).then((receipt) => this.#stored(event, receipt))
  }

  /** The same for host code: within its transaction where one is given; else, where many events wait for the database, it waits for room. */
  async storeFromHost (event: NewEvent, transaction?: HostTransaction): Promise<Receipt> {
    const { eventLog } = this.#internals
    if (transaction !== undefined) return await eventLog.appendInTransaction(executorOf(transaction), event, (receipt) => this.#stored(event, receipt))
    const [receipt] = await Promise.all(eventLog.appendAll([event], { patient: true }))
    return this.#stored(event, receipt as Receipt)
  }

  #stored ({ tenantId, userId, type, channel, data }: NewEvent, receipt: Receipt): Receipt {
    this.#internals.bus.emit('message', { tenantId, userId, messageId: receipt.messageId, type, channel, data })
    return receipt
  }

  #append ({ tenantId, userId }: Identity, excludeConnectionId: string | null, type: string, channel: string, data: Record<string, unknown>, dedupeId?: string): Promise<Receipt> {
    return this.store({ tenantId, userId, type, channel, data, excludeConnectionId, dedupeId })
  }

  /** What many users confirm at once is one commit. A user's tabs that confirm together are one confirmation, of which the sender is told once. */
  async #confirmAll (keys: string[]): Promise<Map<string, number>> {
    const { eventLog, ids } = this.#internals
    const confirmed = await eventLog.confirm(keys.map((key) => {
      const [tenantId = '', userId = '', id] = key.split('/')
      return { tenantId: ids.parse(tenantId), userId: ids.parse(userId), id: Number(id) }
    }), (found) => {
      for (const one of found) if (one.fresh) this.#emitDelivered(one)
    })
    return new Map(confirmed.map(({ tenantId, userId, id }) => [`${tenantId}/${userId}/${id}`, id]))
  }

  #emitDelivered ({ tenantId, userId, id, senderId }: Confirmed): void {
    const data: Delivered = { messageId: id, userId, timestamp: toIso(this.#internals.clock.now()) }
    if (senderId !== this.#internals.ids.system) this.#internals.emit({ tenantId, channel: privateChannel(senderId), event: 'message:delivered', data })
    this.#internals.bus.emit('delivered', { tenantId, userId, messageId: id, senderId })
  }
}

/** Says how many of many are stored. The outcome of a part is not the outcome of the whole: the same key completes it. */
function partly (stored: number, failures: readonly unknown[]): RealtimeError {
  const errors = failures.map(toRealtimeError)
  const error = errors.find(({ code }) => code !== 'RT_STORAGE_UNAVAILABLE') ?? errors[0]
  const sure = stored === 0 && errors.every(({ outcome }) => outcome === 'none')
  return new RealtimeError(error?.code ?? 'RT_STORAGE_UNAVAILABLE', `${stored} of ${stored + failures.length} notifications are stored: repeat the call with the same dedupeId to store the others`, {
    ...(error?.retryAfter === undefined ? {} : { retryAfter: error.retryAfter }), outcome: sure ? 'none' : 'unknown', stored, cause: error?.cause
  })
}
