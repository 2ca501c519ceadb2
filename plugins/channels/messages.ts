import type { Question } from '../../lib/access/access.js'
import { batchLoader } from '../../lib/async/batch-loader.js'
import { isPromise, thenMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { BROADCAST_CHANNEL, isReserved, privateChannel, resolveAlias } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { executorOf, type HostTransaction } from '../../lib/database/host-transaction.js'
import { RealtimeError, toRealtimeError } from '../../lib/errors.js'
import type { Confirmation } from '../../lib/event-log/contract.js'
import type { Confirmed, NewEvent, Receipt } from '../../lib/event-log/index.js'
import { Deferred } from '../../lib/frame-router.js'
import { withIds } from '../../lib/id-schemas.js'
import type { Caller, Identity } from '../../lib/identity.js'
import type { IdKind } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { isMessageData, requireMessageData } from '../../lib/wire/data-size.js'
import { faultFinder, type FaultIn, type Screening } from './before-publish.js'
import type { SendingLimits } from './sending-limits.js'
import { BroadcastData, DirectData, GroupData, NotificationData, type Delivered, type NotificationsAccepted, type StoredData } from './schemas.js'

/** The kinds of messages, by their schemas. */
const schemas = { direct: DirectData, group: GroupData, broadcast: BroadcastData, notification: NotificationData }

function faultsOf (ids: IdKind): Record<keyof typeof schemas, FaultIn> {
  const { direct, group, broadcast, notification } = withIds(schemas, ids)
  const ofMessage = (faultIn: FaultIn): FaultIn => (data) => faultIn(data) ?? (isMessageData(data.data as object | undefined) ? null : 'data')
  return { direct: ofMessage(faultFinder(direct)), group: ofMessage(faultFinder(group)), broadcast: faultFinder(broadcast), notification: faultFinder(notification) }
}

/**
 * The rules of durable events: who may send what to whom. Each method returns a `Deferred` as soon as the event has its
 * position in the queue of the log, so that the next frame of the connection need not wait for the commit.
 */
export class Messages {
  readonly #internals: Internals
  readonly #screening: Screening
  readonly #limits: SendingLimits
  readonly #faults: ReturnType<typeof faultsOf>
  readonly #confirm: (confirmation: Confirmation) => Promise<true | undefined>

  constructor (internals: Internals, screening: Screening, limits: SendingLimits) {
    this.#internals = internals
    this.#screening = screening
    this.#limits = limits
    this.#faults = faultsOf(internals.ids.kind)
    internals.eventLog.defineType('message:direct', { requiresConfirmation: true, copyToSender: true })
    internals.eventLog.defineType('notification:received', { requiresConfirmation: true })
    this.#confirm = batchLoader(async (asked) => await this.#confirmAll(asked), { keyOf })
  }

  /**
   * Throws, or rejects with, `RT_FORBIDDEN`, and the `Deferred` rejects with `RT_STORAGE_UNAVAILABLE`; so do the others.
   * Synchronous if `authorize` is (bench rows "direct messages, durable", "lone durable message").
   */
  direct (caller: Caller, data: DirectData): MaybePromise<Deferred<Receipt>> {
    const { identity, connectionId } = caller
    const { recipientId } = data
    if (data.data !== undefined) requireMessageData(data.data)
    const channel = privateChannel(recipientId)
    return thenMaybe(this.#permit(caller, { action: 'direct', event: 'message:direct', channel, data, recipientIds: [recipientId] }, this.#faults.direct),
      ({ message, conversationId, data, dedupeId }) => {
        const stored: StoredData<'message:direct'> = { senderId: identity.userId, recipientId, message, conversationId }
        if (data !== undefined) stored.data = data
        // Users who write to themselves receive the message on all connections.
        const excludeConnectionId = recipientId === identity.userId ? null : connectionId
        return new Deferred(this.#append(identity, excludeConnectionId, 'message:direct', channel, stored, dedupeId))
      })
  }

  /** Synchronous if `authorize` is (bench rows "fan-out under load", "one at a time"). */
  group (caller: Caller, data: GroupData): MaybePromise<Deferred<Receipt>> {
    const { identity, connectionId } = caller
    const channel = resolveAlias(data.channel, identity.userId)
    if (data.data !== undefined) requireMessageData(data.data)
    // Even if the host allows it: only the plugins publish on these channels.
    if (isReserved(channel)) throw new RealtimeError('RT_FORBIDDEN')
    return thenMaybe(this.#permit(caller, { action: 'publish', event: 'message:group', channel, data }, this.#faults.group),
      ({ message, conversationId, data, dedupeId }) => {
        const stored: StoredData<'message:group'> = { userId: identity.userId, channel, message, conversationId }
        if (data !== undefined) stored.data = data
        return new Deferred(this.#append(identity, connectionId, 'message:group', channel, stored, dedupeId))
      })
  }

  async broadcast (caller: Caller, data: BroadcastData): Promise<Deferred<Receipt>> {
    const { identity } = caller
    const question = { action: 'broadcast', event: 'broadcast:message', channel: BROADCAST_CHANNEL, data } as const
    const { message, messageType = 'info', dedupeId } = await this.#permit(caller, question, this.#faults.broadcast)
    const stored: StoredData<'broadcast:message'> = { message, messageType, senderId: identity.userId }
    return new Deferred(this.#append(identity, null, 'broadcast:message', BROADCAST_CHANNEL, stored, dedupeId))
  }

  async notify (caller: Caller, data: NotificationData): Promise<Deferred<NotificationsAccepted>> {
    const { identity } = caller
    const { recipientIds } = data
    if (new Set(recipientIds).size < recipientIds.length) throw new RealtimeError('RT_INVALID_DATA', 'recipientIds: Expected array elements to be unique')
    const question = { action: 'notify', event: 'notification:send', channel: privateChannel(identity.userId), data, recipientIds } as const
    const screened = await this.#permit(caller, question, this.#faults.notification)
    return new Deferred(this.#notifyAll(identity, { ...screened, recipientIds }))
  }

  async #notifyAll (identity: Identity, data: NotificationData): Promise<NotificationsAccepted> {
    const receipts = await this.storeNotifications(identity, data, { patient: false })
    return { messageIds: receipts.map(({ messageId }) => messageId), timestamp: receipts[0]?.timestamp ?? toIso(this.#internals.clock.now()) }
  }

  /**
   * Calls `authorize` and `beforePublish`, and counts the event. Returns the data to publish; throws, or rejects with, the errors
   * of `require` and `screen`, or `RT_RATE_LIMITED`.
   */
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
   * Stores one event per recipient, each with its own id, all with the same time. Rejects unless all are stored. With
   * `patient`, any number of events waits for space in the queue.
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
    for (const result of results) {
      if (result.status === 'rejected') failures.push(result.reason)
      else stored.push(result.value)
    }
    if (failures.length > 0) throw partly(stored.length, failures)
    return stored
  }

  /** The caller received the message: it is not sent again, and its sender gets `message:delivered`, once. Throws `RT_NOT_FOUND`. */
  async delivered ({ identity }: Caller, messageId: number): Promise<{ messageId: number }> {
    const { tenantId, userId } = identity
    const found = await this.#confirm({ tenantId, userId, id: messageId })
    if (found === undefined) throw new RealtimeError('RT_NOT_FOUND', 'No message of yours has this id')
    return { messageId }
  }

  /** The same for many. Returns the ids of the caller's messages among these. */
  async deliveredAll ({ identity: { tenantId, userId } }: Caller, messageIds: readonly number[]): Promise<number[]> {
    const ids = [...new Set(messageIds)]
    const found = await Promise.all(ids.map(async (id) => await this.#confirm({ tenantId, userId, id })))
    return ids.filter((_, i) => found[i] !== undefined)
  }

  /** Stores an event. */
  store (event: NewEvent): Promise<Receipt> {
    const { eventLog, conversations } = this.#internals
    const begun = conversations?.begin(event)
    return isPromise(begun) ? begun.then(async () => await eventLog.append(event)) : eventLog.append(event)
  }

  /** The same for host code, in its transaction if there is one. Without, the event waits for space in a full queue. */
  async storeFromHost (event: NewEvent, transaction?: HostTransaction): Promise<Receipt> {
    const { eventLog, conversations } = this.#internals
    const executor = transaction === undefined ? undefined : executorOf(transaction)
    const begun = conversations?.begin(event, executor)
    if (isPromise(begun)) await begun
    if (executor !== undefined) return await eventLog.appendInTransaction(executor, event)
    const [receipt] = await Promise.all(eventLog.appendAll([event], { patient: true }))
    return receipt as Receipt
  }

  #append ({ tenantId, userId }: Identity, excludeConnectionId: string | null, type: string, channel: string, data: Record<string, unknown>, dedupeId?: string): Promise<Receipt> {
    return this.store({ tenantId, userId, type, channel, data, excludeConnectionId, dedupeId })
  }

  /** Simultaneous confirmations of many users are one commit. Confirmations by several tabs of one user are one, and the sender gets one event. */
  async #confirmAll (asked: readonly Confirmation[]): Promise<Map<Confirmation, true>> {
    const confirmed = await this.#internals.eventLog.confirm(asked, (found) => {
      for (const one of found) if (one.fresh) this.#emitDelivered(one)
    })
    const known = new Set(confirmed.map(keyOf))
    return new Map(asked.flatMap((one) => known.has(keyOf(one)) ? [[one, true]] : []))
  }

  #emitDelivered ({ tenantId, userId, id, senderId }: Confirmed): void {
    const data: Delivered = { messageId: id, userId, timestamp: toIso(this.#internals.clock.now()) }
    if (senderId !== this.#internals.ids.system) this.#internals.emit({ tenantId, channel: privateChannel(senderId), event: 'message:delivered', data })
    this.#internals.bus.emit('delivered', { tenantId, userId, messageId: id, senderId })
  }
}

const keyOf = ({ tenantId, userId, id }: Confirmation): string => `${tenantId}/${userId}/${id}`

/** The error of a call that stored only some of its events. Repeating it with the same `dedupeId` stores the others. */
function partly (stored: number, failures: readonly unknown[]): RealtimeError {
  const errors = failures.map(toRealtimeError)
  const error = errors.find(({ code }) => code !== 'RT_STORAGE_UNAVAILABLE') ?? errors[0]
  const sure = stored === 0 && errors.every(({ outcome }) => outcome === 'none')
  return new RealtimeError(error?.code ?? 'RT_STORAGE_UNAVAILABLE', `${stored} of ${stored + failures.length} notifications are stored: repeat the call with the same dedupeId to store the others`, {
    ...(error?.retryAfter === undefined ? {} : { retryAfter: error.retryAfter }), outcome: sure ? 'none' : 'unknown', stored, cause: error?.cause
  })
}
