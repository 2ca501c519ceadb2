import { directConversation, isDirectConversation, peerIn, usersOf } from '../../lib/conversation-keys.js'
import { privateChannel, resolveAlias } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Caller } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { OwnConnections } from './own-connections.js'
import type { Conversation, History, Read, ReadAck, Where } from './schemas.js'
import { Searches } from './searches.js'
import type { ConversationStore, Entry, ListCursor, StoredMessage } from './store.js'

const HISTORY_LIMIT = 50
const LIST_LIMIT = 50
const READ = 'conversation:read'

/** The rules of reading: history, the list, and read marks. */
export class Conversations {
  readonly #internals: Internals
  readonly #store: ConversationStore
  readonly #own: OwnConnections
  readonly #receiptsUpTo: number
  readonly #searches: Searches

  constructor (internals: Internals, store: ConversationStore, own: OwnConnections, receiptsUpTo: number) {
    this.#internals = internals
    this.#store = store
    this.#own = own
    this.#receiptsUpTo = receiptsUpTo
    this.#searches = new Searches(internals)
  }

  /** The newest messages, or those before one. Throws `RT_FORBIDDEN`, and `RT_RATE_LIMITED` for too many searches by label. */
  async history (caller: Caller, { before, limit = HISTORY_LIMIT, conversationId, ...where }: Where & {
    before?: number | undefined, limit?: number | undefined, conversationId?: string | undefined
  }): Promise<History> {
    const { identity } = caller
    const conversation = await this.#readable(caller, where)
    const { tenantId } = identity
    const [{ messages, from }, reads] = await Promise.all([
      this.#store.history({ tenantId, conversation, before, limit: limit + 1, label: conversationId }, async (search) => await this.#searches.run(identity, search)),
      before === undefined ? this.#reads(tenantId, conversation) : undefined
    ])
    const page = messages.slice(0, limit).reverse()
    const data = page.map((message) => this.#frameOf(message, conversation))
    const next = messages.length > limit ? page[0]?.id ?? null : from
    return { data, more: next !== null, before: next, ...reads === undefined ? {} : { reads } }
  }

  /** The read marks of everyone, for clients that missed `conversation:read`; empty where that is not sent. */
  async #reads (tenantId: Id, conversation: string): Promise<History['data']> {
    const limit = isDirectConversation(conversation) ? 2 : this.#receiptsUpTo
    if (limit === 0) return []
    const marks = await this.#store.marks(tenantId, conversation, limit + 1)
    if (marks.length > limit) return []
    return marks.filter(({ readUpTo }) => readUpTo > 0).map(({ userId, readUpTo, movedAt }) => ({ event: READ, data: this.#readOf(conversation, userId, readUpTo, movedAt) }))
  }

  #readOf (conversation: string, userId: Id, readUpTo: number, movedAt: number): Read {
    return { userId, readUpTo, ...placeOf(this.#internals, conversation, userId), timestamp: toIso(movedAt) }
  }

  /** A page of the caller's list. `cursor`: from the previous page. Throws `RT_INVALID_DATA`. */
  async list ({ identity: { tenantId, userId } }: Caller, { limit = LIST_LIMIT, cursor }: { limit?: number | undefined, cursor?: string | undefined }): Promise<{ data: Conversation[], next: string | null }> {
    const { ids, directory } = this.#internals
    const found = await this.#store.list(tenantId, userId, cursor === undefined ? null : readCursor(cursor), limit + 1)
    const entries = found.slice(0, limit)
    const peers = entries.map(({ conversation }) => isDirectConversation(conversation) ? peerIn(ids, conversation, userId) : null)
    const [last, counts, names] = await Promise.all([
      this.#store.messages(entries.flatMap(({ lastId }) => lastId > 0 ? lastId : [])),
      this.#store.unread(tenantId, userId, entries),
      directory.names(tenantId, peers.filter((peer) => peer !== null))
    ])
    const data = entries.map(({ conversation, lastId }, i): Conversation => {
      const message = last.get(lastId)
      const peer = peers[i] ?? null
      return {
        ...peer === null ? { channel: conversation } : { with: peer },
        name: peer === null ? null : names.shift() ?? null,
        last: message === undefined ? null : this.#frameOf(message, conversation),
        last_at: message === undefined ? null : toIso(message.createdAt),
        unread: counts[i]?.unread ?? 0,
        read_up_to: counts[i]?.readUpTo ?? 0
      }
    })
    return { data, next: found.length > limit ? writeCursor(entries.at(-1)) : null }
  }

  /** Moves the caller's mark forward, and sends `conversation:read`. Throws `RT_FORBIDDEN`. */
  async read (caller: Caller, { messageId, ...where }: Where & { messageId: number }): Promise<ReadAck> {
    const { identity: { tenantId, userId } } = caller
    const conversation = await this.#readable(caller, where)
    const { mark, newest, ...latest } = await this.#store.markOf(tenantId, userId, conversation)
    // A mark in the future would hide later messages.
    const asked = Math.min(messageId, newest)
    const moved = Math.max(mark ?? 0, asked)
    // Without messages nothing is stored, because names of conversations can be invented.
    if (mark === null && latest.lastId === 0) return { unread: 0, readUpTo: 0 }
    if (mark === null || moved > mark) {
      await this.#internals.database.ask(async () => {
        await this.#store.mark([{ tenantId, userId, conversation, readUpTo: moved }], this.#internals.clock.now())
      })
    }
    const [counts = { unread: 0, readUpTo: moved }] = await this.#store.unread(tenantId, userId, [{ conversation, mark: moved, ...latest }])
    if (moved > (mark ?? 0)) await this.#announceRead(caller, conversation, moved)
    return counts
  }

  async #announceRead ({ identity: { tenantId, userId }, connectionId }: Caller, conversation: string, readUpTo: number): Promise<void> {
    const { ids, emit, clock } = this.#internals
    const data = this.#readOf(conversation, userId, readUpTo, clock.now())
    const event = READ
    const toOwn = (): void => { emit({ tenantId, channel: privateChannel(userId), event, data, excludeConnectionId: connectionId }) }
    if (isDirectConversation(conversation)) {
      toOwn()
      const peer = peerIn(ids, conversation, userId)
      if (peer !== userId && peer !== ids.system) emit({ tenantId, channel: privateChannel(peer), event, data })
      return
    }
    const participants = this.#receiptsUpTo === 0 ? [] : await this.#store.participants(tenantId, conversation, this.#receiptsUpTo + 1).catch(() => [])
    if (participants.length === 0 || participants.length > this.#receiptsUpTo) {
      toOwn()
      return
    }
    emit({ tenantId, channel: conversation, event, data, excludeConnectionId: connectionId })
    // The reader's connections that are not subscribed.
    await this.#own.send({ tenantId, userId }, conversation, { event, data, excludeConnectionId: connectionId })
  }

  /** The conversation that a caller names and may read. Throws `RT_FORBIDDEN`, or `RT_INVALID_DATA` unless there is exactly one of the two. */
  async #readable (caller: Caller, { channel, with: peer }: Where): Promise<string> {
    const { userId } = caller.identity
    if ((channel === undefined) === (peer === undefined)) throw new RealtimeError('RT_INVALID_DATA', 'channel: Expected either channel or with')
    if (peer !== undefined) return directConversation(this.#internals.ids, userId, peer)
    const name = resolveAlias(channel ?? '', userId)
    await this.#internals.access.require(caller, { action: 'subscribe', channel: name })
    return name
  }

  /** Direct messages of earlier versions lack their recipient. */
  #frameOf ({ id, type, payload }: StoredMessage, conversation: string): { event: string, data: Record<string, unknown> } {
    if (type !== 'message:direct' || 'recipientId' in payload) return { event: type, data: { messageId: id, ...payload } }
    const [one, other] = usersOf(this.#internals.ids, conversation)
    return { event: type, data: { messageId: id, ...payload, recipientId: payload.senderId === one ? other : one } }
  }
}

/** Names a conversation in a frame: the same for both users of a direct one. */
export function placeOf ({ ids }: Pick<Internals, 'ids'>, conversation: string, senderId: Id): { channel: string } | { senderId: Id, recipientId: Id } {
  return isDirectConversation(conversation) ? { senderId, recipientId: peerIn(ids, conversation, senderId) } : { channel: conversation }
}

const writeCursor = (entry: Entry | undefined): string | null =>
  entry === undefined ? null : Buffer.from(`${entry.lastId},${entry.conversation}`).toString('base64url')

function readCursor (cursor: string): ListCursor {
  const [, lastId, conversation] = /^(\d{1,16}),(.+)$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (lastId === undefined || conversation === undefined) throw new RealtimeError('RT_INVALID_DATA', 'cursor: Expected a cursor as returned')
  return { lastId: Number(lastId), conversation }
}
