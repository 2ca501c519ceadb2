import type { FastifyBaseLogger } from 'fastify'
import type { Rate } from '../../lib/access/rate-counters.js'
import { thenMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { isReserved, privateChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Caller, Identity } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey } from '../../lib/keys.js'
import { rateKey } from '../../lib/plugin-kit/rest-scope.js'
import type { TypingEntry } from '../../lib/roster/contract.js'
import type { ConversationType } from '../../lib/schemas.js'
import type { TypingAck, TypingChanged } from './schemas.js'
import type { TypingStore } from './store.js'

/** The users of a conversation, by the host's knowledge; they are told of typing in it. */
export type Participants = (conversation: {
  tenantId: Id, conversationId: string, conversationType: ConversationType
}) => Id[] | Promise<Id[]>

export interface TypingSettings {
  rate: Rate
  /** Milliseconds after the last sign. */
  timeout: number
  participants: Participants | undefined
}

/** A sign of typing, or of its end. */
export interface TypingUpdate {
  conversationId: string
  conversationType?: ConversationType | undefined
  isTyping: boolean
  channel?: string | undefined
  recipientId?: Id | undefined
}

type TypingKey = Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>

/** The key under which a user's signs are counted, REST and frames together. */
export const RATE_KIND = 'typing'
/** Conversations remembered per connection, to stop what it typed when it closes. */
const MAX_REMEMBERED = 64

/** The rules of typing: told at the start and at the stop, whatever the stop is: said, sent, disconnected, or run out. */
export class TypingRules {
  readonly #internals: Internals
  readonly #store: TypingStore
  readonly #settings: TypingSettings
  readonly #log: FastifyBaseLogger
  /** What connections of this node type, by {@link connectionKey}. */
  readonly #byConnection = new Map<string, Map<string, TypingKey>>()
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

  /** A frame's sign counts against the same rate as a request's. Throws `RT_RATE_LIMITED`. */
  async count ({ identity }: Caller): Promise<void> {
    await this.#internals.rates.take(rateKey(RATE_KIND, identity), this.#settings.rate)
  }

  /** A sign of typing, or its end. Throws `RT_FORBIDDEN` where the caller may not publish to the channel or recipient named. */
  async record (caller: Caller, { conversationId, conversationType, isTyping, channel, recipientId }: TypingUpdate): Promise<TypingAck> {
    const { identity, connectionId } = caller
    const { tenantId, userId } = identity
    const now = this.#internals.clock.now()
    if (!isTyping) {
      await this.stop([{ tenantId, userId, conversationId }])
      return { conversationId, isTyping, expiresAt: toIso(now) }
    }
    const type = conversationType ?? (channel === undefined ? 'direct' : 'group')
    const expiresAt = now + this.#settings.timeout
    const entry: TypingEntry = {
      tenantId,
      userId,
      conversationId,
      conversationType: type,
      channels: await this.#audience(identity, conversationId, type, channel, recipientId),
      connectionId,
      startedAt: now,
      expiresAt
    }
    if (connectionId !== null) this.#remember(connectionKey(tenantId, connectionId), { tenantId, userId, conversationId })
    if (await this.#internals.roster.startTyping(entry)) this.#emit(entry, true)
    return { conversationId, isTyping, expiresAt: toIso(expiresAt) }
  }

  /** Who types in a conversation now. */
  async users (tenantId: Id, conversationId: string): Promise<Array<{ user_id: Id, user_name: string | null, started_at: string }>> {
    const entries = await this.#internals.roster.typing(tenantId, conversationId)
    const names = await this.#internals.directory.names(tenantId, entries.map(({ userId }) => userId))
    return entries.map(({ userId, startedAt }, i) => ({ user_id: userId, user_name: names[i] ?? null, started_at: toIso(startedAt) }))
  }

  /** Ends typing where there is any, and tells it. */
  async stop (keys: TypingKey[]): Promise<void> {
    for (const entry of await this.#internals.roster.stopTyping(keys)) this.#emit(entry, false)
  }

  /** Resolves when what was ended so far is told. */
  async whenStopsSent (): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    await this.#stopped
  }

  /** What a turn of the event loop ends is one call of the roster: each message sent ends the typing of its sender. */
  #stopSoon (key: TypingKey): void {
    this.#stopping.push(key)
    if (this.#stopping.length > 1) return
    setImmediate(() => {
      const keys = this.#stopping
      this.#stopping = []
      this.#stopped = this.stop(keys).catch((err: unknown) => { this.#log.debug({ err }, 'typing ends by itself: the roster is away') })
    })
  }

  #audience (
    identity: Identity, conversationId: string, conversationType: ConversationType, channel: string | undefined, recipientId: Id | undefined
  ): MaybePromise<string[]> {
    const { access } = this.#internals
    if (channel !== undefined) {
      if (isReserved(channel)) throw new RealtimeError('RT_FORBIDDEN')
      return thenMaybe(access.require({ identity, action: 'publish', channel }), () => [channel])
    }
    if (recipientId !== undefined) {
      const own = privateChannel(recipientId)
      return thenMaybe(access.require({ identity, action: 'direct', channel: own }), () => [own])
    }
    const { tenantId, userId } = identity
    if (this.#settings.participants !== undefined) {
      return thenMaybe(this.#settings.participants({ tenantId, conversationId, conversationType }),
        (ids) => ids.filter((id) => id !== userId).map(privateChannel))
    }
    // Nobody was named: those who subscribed to the conversation, where the caller may speak in it; else nobody.
    const conversation = `conversation.${conversationId}`
    if (!this.#internals.ids.isChannel(conversation)) return []
    return thenMaybe(access.allows({ identity, action: 'publish', channel: conversation }), (open) => open ? [conversation] : [])
  }

  #remember (key: string, typed: TypingKey): void {
    const known = this.#byConnection.get(key) ?? new Map<string, TypingKey>()
    known.delete(typed.conversationId)
    known.set(typed.conversationId, typed)
    if (known.size > MAX_REMEMBERED) {
      const oldest = known.keys().next()
      if (oldest.done !== true) known.delete(oldest.value)
    }
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
    this.#internals.bus.emit('typing', { entry, isTyping })
  }
}
