import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import { privateChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { isDirectConversation, peerIn, usersOf } from '../../lib/conversation-keys.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Change, NewEvent, Receipt } from '../../lib/event-log/index.js'
import { Deferred } from '../../lib/frame-router.js'
import type { Caller, Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { isMessageData, requireMessageData } from '../../lib/wire/data-size.js'
import { placeOf } from './conversations.js'
import { EditData, type Deleted, type DeleteAck, type DeleteData, type EditAck, type Edited } from './schemas.js'
import type { ConversationStore, MessagePlace } from './store.js'

/** Decides who may edit and delete messages of others: `event` is `message:edit` or `message:delete`. */
export type Moderate = (question: { identity: Identity, channel: string, event: string }) => MaybePromise<boolean>

export interface EditSettings {
  /** Milliseconds for which senders may change their messages; undefined: forever. */
  editWindow: number | undefined
  moderate: Moderate | undefined
}

/** Refusals that a message which was changed meanwhile leads to. */
const FINAL: ReadonlySet<string> = new Set(['RT_NOT_FOUND', 'RT_FORBIDDEN'])

const content = TypeCompiler.Compile(Type.Pick(EditData, ['message', 'data']))

/** The rules of edits and deletes: who may change which message. Both are events of their own, in the order of their sender. */
export class Edits {
  readonly #internals: Internals
  readonly #store: ConversationStore
  readonly #settings: EditSettings

  constructor (internals: Internals, store: ConversationStore, settings: EditSettings) {
    this.#internals = internals
    this.#store = store
    this.#settings = settings
    internals.eventLog.defineType('message:edited', { copyToSender: true })
    internals.eventLog.defineType('message:deleted', { copyToSender: true })
  }

  /**
   * Throws `RT_NOT_FOUND`, `RT_FORBIDDEN`, and the errors of `beforePublish` and of the limits. The `Deferred` rejects with
   * `RT_NOT_FOUND` if the message is deleted at this moment.
   */
  async edit (caller: Caller, asked: EditData): Promise<Deferred<EditAck>> {
    const { messageId: targetId } = asked
    requireMessageData(asked.data)
    return await this.#repeatable(caller, asked, 'message:edited', async () => await this.#edit(caller, asked),
      ({ messageId, timestamp }) => ({ messageId, targetId, editedAt: timestamp }))
  }

  /** Throws, and the `Deferred` rejects, as for `edit`. */
  async delete (caller: Caller, asked: DeleteData): Promise<Deferred<DeleteAck>> {
    return await this.#repeatable(caller, asked, 'message:deleted', async () => await this.#delete(caller, asked),
      ({ messageId }) => ({ messageId, targetId: asked.messageId }))
  }

  /**
   * Makes a change. Repeated under its key, it returns the original result, although the message can no longer be changed: it
   * may be deleted, by this very change, or too old.
   */
  async #repeatable<Ack> (
    { identity }: Caller, { messageId: targetId, dedupeId }: DeleteData, type: string, change: () => Promise<{ stored: Promise<Receipt> }>, ackOf: (receipt: Receipt) => Ack
  ): Promise<Deferred<Ack>> {
    const { eventLog, clock } = this.#internals
    const original = async (err: unknown): Promise<Receipt> => {
      if (dedupeId === undefined || !(err instanceof RealtimeError) || !FINAL.has(err.code)) throw err
      const found = await eventLog.ask(async () => await eventLog.store.original(identity, dedupeId, clock.now()))
      if (found?.event.type !== type) throw err
      // A delete empties the edits of its message.
      const { targetId: changed = targetId } = JSON.parse(found.event.payload) as { targetId?: number }
      if (changed !== targetId) throw err
      return { messageId: found.event.id, timestamp: toIso(found.createdAt) }
    }
    try {
      const { stored } = await change()
      return new Deferred(stored.catch(original).then(ackOf))
    } catch (err) {
      return new Deferred(Promise.resolve(ackOf(await original(err))))
    }
  }

  async #edit (caller: Caller, asked: EditData): Promise<{ stored: Promise<Receipt> }> {
    const { messageId: targetId, dedupeId } = asked
    const place = await this.#changeable(caller, targetId, 'message:edit')
    const { screening, clock } = this.#internals
    const sent = { messageId: targetId, message: asked.message, ...asked.data === undefined ? {} : { data: asked.data } }
    const { message, data } = screening === null ? sent : await screening.screen(caller, 'message:edit', place.channel, sent, faultIn)
    await screening?.count(caller.identity)
    const createdAt = clock.now()
    const editedAt = toIso(createdAt)
    const event: Omit<Edited, 'messageId' | 'timestamp'> = {
      targetId, message, data: data ?? null, editedAt, userId: caller.identity.userId, ...placeOf(this.#internals, place.conversation, place.userId)
    }
    return { stored: this.#append(caller, place, 'message:edited', event, { targetId, content: { message, data } }, createdAt, dedupeId) }
  }

  async #delete (caller: Caller, { messageId: targetId, dedupeId }: DeleteData): Promise<{ stored: Promise<Receipt> }> {
    const place = await this.#changeable(caller, targetId, 'message:delete')
    await this.#internals.screening?.count(caller.identity)
    // Before it is written, the sender's mark is derived from the message.
    await this.#store.markSender(caller.identity.tenantId, place, this.#internals.clock.now())
    const event: Omit<Deleted, 'messageId' | 'timestamp'> = {
      targetId, userId: caller.identity.userId, ...placeOf(this.#internals, place.conversation, place.userId)
    }
    return { stored: this.#append(caller, place, 'message:deleted', event, { targetId, content: null }, this.#internals.clock.now(), dedupeId) }
  }

  #append ({ identity: { tenantId, userId }, connectionId }: Caller, place: MessagePlace, type: string, data: Record<string, unknown>, change: Change, createdAt: number, dedupeId: string | undefined): Promise<Receipt> {
    const event: NewEvent = { tenantId, userId, type, channel: this.#channelFor(place, userId), data, change, createdAt, excludeConnectionId: connectionId, dedupeId }
    return this.#internals.eventLog.append(event)
  }

  /** For a direct message, the channel of the user who does not change it; the one who does gets a copy. */
  #channelFor ({ conversation, channel }: MessagePlace, userId: Identity['userId']): string {
    const { ids } = this.#internals
    if (!isDirectConversation(conversation)) return channel
    const peer = peerIn(ids, conversation, userId)
    return privateChannel(peer === ids.system ? userId : peer)
  }

  async #changeable (caller: Caller, id: number, event: 'message:edit' | 'message:delete'): Promise<MessagePlace> {
    const { identity } = caller
    const { access, clock } = this.#internals
    const { editWindow = Infinity, moderate } = this.#settings
    const place = await this.#store.find(identity.tenantId, id)
    if (place === null || !await this.#mayRead(caller, place)) throw new RealtimeError('RT_NOT_FOUND', 'No message has this id')
    if (place.userId === identity.userId && clock.now() - place.createdAt <= editWindow) return place
    const { channel } = place
    if (moderate !== undefined && await access.ask(caller, 'moderate', () => moderate({ identity, channel, event })) === true) return place
    throw new RealtimeError('RT_FORBIDDEN')
  }

  async #mayRead (caller: Caller, { conversation, channel }: MessagePlace): Promise<boolean> {
    const { access, ids } = this.#internals
    if (isDirectConversation(conversation)) return usersOf(ids, conversation).includes(caller.identity.userId)
    return await access.allows(caller, { action: 'subscribe', channel })
  }
}

const faultIn = (data: Record<string, unknown>): string | null => {
  if (!content.Check(data)) return content.Errors(data).First()?.path.slice(1).replaceAll('/', '.') ?? ''
  return isMessageData(data.data) ? null : 'data'
}
