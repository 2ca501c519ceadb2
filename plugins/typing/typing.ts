import type { FastifyBaseLogger } from 'fastify'
import { BoundedMap } from '../../lib/async/bounded-map.js'
import { nextTurn } from '../../lib/async/timers.js'
import { isReserved, privateChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Caller } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey, type ConnectionKey } from '../../lib/keys.js'
import type { TypingEntry } from '../../lib/roster/contract.js'
import type { ConversationType } from '../../lib/schemas.js'
import type { TypingAck, TypingChanged } from './schemas.js'
import type { TypingStore } from './store.js'

/**
 * Returns the users of a conversation: typing in it is sent to them, and only they may type and see who types there. `[]`: no one
 * may. `null`: the host does not know the conversation, and the rules without this option apply.
 */
export type Participants = (conversation: {
  tenantId: Id, conversationId: string, conversationType: ConversationType
}) => Id[] | null | Promise<Id[] | null>

export interface TypingSettings {
  /** Milliseconds after the last update. */
  timeout: number
  participants: Participants | undefined
}

/** A user types, or has stopped. */
export interface TypingUpdate {
  conversationId: string
  conversationType?: ConversationType | undefined
  isTyping: boolean
  channel?: string | undefined
  recipientId?: Id | undefined
}

type TypingKey = Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>

/** Conversations remembered per connection, to stop what it typed when it closes. */
const MAX_REMEMBERED = 64

/** The rules of typing. The start and the stop are sent, once each; typing stops by an update, a message, a disconnect, or a timeout. */
export class TypingRules {
  readonly #internals: Internals
  readonly #store: TypingStore
  readonly #settings: TypingSettings
  readonly #log: FastifyBaseLogger
  /** The conversations in which connections of this node type. */
  readonly #byConnection = new Map<ConnectionKey, Map<string, TypingKey>>()
  #stopping: TypingKey[] = []
  #stopped: Promise<void> = Promise.resolve()

  constructor (internals: Internals, store: TypingStore, settings: TypingSettings, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#store = store
    this.#settings = settings
    this.#log = log
    internals.bus.on('typingExpired', (entry) => { this.#emit(entry, false) })
    internals.bus.on('message', ({ tenantId, userId, data }) => {
      if (typeof data.conversationId === 'string') this.#stopSoon({ tenantId, userId, conversationId: data.conversationId })
    })
    internals.bus.on('disconnected', ({ tenantId, connectionId }) => {
      const key = connectionKey(tenantId, connectionId)
      for (const typed of this.#byConnection.get(key)?.values() ?? []) this.#stopSoon(typed)
      this.#byConnection.delete(key)
    })
  }

  /** Starts, prolongs or stops typing. Throws `RT_FORBIDDEN` if the caller may not publish to the channel or to the recipient. */
  async record (caller: Caller, { conversationId, conversationType, isTyping, channel, recipientId }: TypingUpdate): Promise<TypingAck> {
    const { identity, connectionId } = caller
    const { tenantId, userId } = identity
    const now = this.#internals.clock.now()
    const type = conversationType ?? (channel === undefined ? 'direct' : 'group')
    const participants = await this.#participants(caller, conversationId, type)
    if (!isTyping) {
      await this.stop([{ tenantId, userId, conversationId }])
      return { conversationId, isTyping, expiresAt: toIso(now) }
    }
    const expiresAt = now + this.#settings.timeout
    const entry: TypingEntry = {
      tenantId,
      userId,
      conversationId,
      conversationType: type,
      channels: await this.#audience(caller, participants, { conversationId, conversationType, isTyping, channel, recipientId }),
      connectionId,
      startedAt: now,
      expiresAt
    }
    if (connectionId !== null) this.#remember(connectionKey(tenantId, connectionId), { tenantId, userId, conversationId })
    if (await this.#internals.roster.startTyping(entry)) this.#emit(entry, true)
    return { conversationId, isTyping, expiresAt: toIso(expiresAt) }
  }

  /** Who types in a conversation now, for one of its participants. Throws `RT_FORBIDDEN`. */
  async usersFor (caller: Caller, conversationId: string): Promise<Awaited<ReturnType<TypingRules['users']>>> {
    await this.#participants(caller, conversationId, 'direct')
    return await this.users(caller.identity.tenantId, conversationId)
  }

  /** Who types in a conversation now. */
  async users (tenantId: Id, conversationId: string): Promise<Array<{ user_id: Id, user_name: string | null, started_at: string }>> {
    const entries = await this.#internals.roster.typing(tenantId, conversationId)
    const names = await this.#internals.directory.names(tenantId, entries.map(({ userId }) => userId))
    return entries.map(({ userId, startedAt }, i) => ({ user_id: userId, user_name: names[i] ?? null, started_at: toIso(startedAt) }))
  }

  /** Stops running typing, and sends the stop. */
  async stop (keys: TypingKey[]): Promise<void> {
    for (const entry of await this.#internals.roster.stopTyping(keys)) this.#emit(entry, false)
  }

  /** Resolves when all stops so far are sent. */
  async whenStopsSent (): Promise<void> {
    await nextTurn()
    await this.#stopped
  }

  /** Stops of one turn of the event loop are one call of the roster: each message stops the typing of its sender. */
  #stopSoon (key: TypingKey): void {
    this.#stopping.push(key)
    if (this.#stopping.length > 1) return
    setImmediate(() => {
      const keys = this.#stopping
      this.#stopping = []
      this.#stopped = this.stop(keys).catch((err: unknown) => { this.#log.debug({ err }, 'Could not stop typing, it expires by itself: Redis is away') })
    })
  }

  /** The conversation's users, or null if the host does not know them. Rejects with `RT_FORBIDDEN` if the caller is not one of them. */
  async #participants (caller: Caller, conversationId: string, conversationType: ConversationType): Promise<Id[] | null> {
    const { participants } = this.#settings
    if (participants === undefined) return null
    const { tenantId, userId } = caller.identity
    const ids: Id[] | null | undefined = await this.#internals.access.ask(caller, 'participants', () => participants({ tenantId, conversationId, conversationType }))
    // A host in plain JavaScript may return nothing.
    if (ids === null || ids === undefined) return null
    if (!ids.includes(userId)) throw new RealtimeError('RT_FORBIDDEN', 'Not a participant of this conversation')
    return ids
  }

  /** Where typing is sent: the first of `channel`, `recipientId`, the participants, `conversation.{conversationId}`. */
  async #audience (caller: Caller, participants: Id[] | null, update: TypingUpdate): Promise<string[]> {
    const { access } = this.#internals
    const { conversationId, channel, recipientId } = update
    const event = 'user:typing'
    const data = { ...update }
    if (channel !== undefined) {
      if (isReserved(channel)) throw new RealtimeError('RT_FORBIDDEN')
      await access.require(caller, { action: 'publish', event, channel, data })
      return [channel]
    }
    if (recipientId !== undefined) {
      const own = privateChannel(recipientId)
      await access.require(caller, { action: 'direct', event, channel: own, data, recipientIds: [recipientId] })
      return [own]
    }
    if (participants !== null) return participants.filter((id) => id !== caller.identity.userId).map(privateChannel)
    // Neither channel nor recipient nor participants: the conversation's own channel, if the caller may publish to it.
    const conversation = `conversation.${conversationId}`
    if (!this.#internals.ids.isChannel(conversation)) return []
    return await access.allows(caller, { action: 'publish', event, channel: conversation, data }) ? [conversation] : []
  }

  #remember (key: ConnectionKey, typed: TypingKey): void {
    const known = this.#byConnection.get(key) ?? new BoundedMap<string, TypingKey>(MAX_REMEMBERED)
    known.set(typed.conversationId, typed)
    this.#byConnection.set(key, known)
  }

  #emit (entry: TypingEntry, isTyping: boolean): void {
    const { tenantId, userId, conversationId, conversationType, connectionId } = entry
    const now = this.#internals.clock.now()
    const data: TypingChanged = { userId, isTyping, conversationId, conversationType, timestamp: toIso(now) }
    for (const channel of entry.channels) {
      this.#internals.emit({ tenantId, channel, event: 'user:typing', data, excludeConnectionId: connectionId })
    }
    this.#store.put({ entry, isTyping, expiresAt: isTyping ? entry.expiresAt : now })
    this.#internals.eventLog.audit({ tenantId, userId, type: 'user:typing', channel: entry.channels[0] ?? `conversation.${conversationId}`.slice(0, 255), data })
    this.#internals.bus.emit('typing', { ...entry, isTyping, entry })
  }
}
