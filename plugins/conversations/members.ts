import { Type, type Static } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import { batchLoader } from '../../lib/async/batch-loader.js'
import { BoundedMap } from '../../lib/async/bounded-map.js'
import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import { callNodes } from '../../lib/backplane/call-nodes.js'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { conversationOf, isDirectConversation, usersOf } from '../../lib/conversation-keys.js'
import type { Executor } from '../../lib/database/dialect.js'
import { WriteBehind } from '../../lib/database/write-behind.js'
import type { NewEvent } from '../../lib/event-log/index.js'
import { Id as IdSchema, withIds } from '../../lib/id-schemas.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { UserRef } from '../../lib/keys.js'
import type { ConversationStore, Mark } from './store.js'

/** Number of conversations of users that are cached as being in the table, and the time for which, in milliseconds. */
const MAX_KNOWN = 100_000
const KNOWN_MS = 600_000
/** Marks that may wait to be written. A lost mark does no harm: it can be derived from the sender's message. */
const MAX_MARKS = 50_000

/** The RPC that makes a node forget that users have a conversation in their lists. */
const FORGET = 'conversations.forget'
/** Time limit of that call, in milliseconds. */
const FORGET_MS = 2000
const Leaving = Type.Object({ tenantId: IdSchema, userIds: Type.Array(IdSchema), conversation: Type.String() })
type Leaving = Static<typeof Leaving>

/**
 * Knows which users have which conversations in their lists. The first message of a user in a conversation is stored after the
 * row of the list; later messages cost nothing. The sender's mark is written behind: until then, and without it, unread counts
 * begin after the sender's newest message.
 */
export class Members {
  readonly #internals: Internals
  readonly #store: ConversationStore
  /** `{tenant}/{user}/{conversation}` → when it was written; a promise while it is being written. */
  readonly #known = new BoundedMap<string, number | Promise<void>>(MAX_KNOWN)
  readonly #write: (mark: Mark) => Promise<unknown>
  readonly #marks: WriteBehind<Mark>
  /** Marks of conversations that are listed for the first time: see `ConversationStore.from`. */
  #from: number | null = null

  constructor (internals: Internals, store: ConversationStore, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#store = store
    this.#write = batchLoader<Mark, never>(async (marks) => {
      await internals.database.ask(async () => { await this.add(marks) })
      return new Map<Mark, never>()
    }, { keyOf: keyOfMark })
    this.#marks = new WriteBehind({
      name: 'conversations', log, limit: MAX_MARKS, key: keyOfMark,
      write: async (marks) => { await store.mark(marks, internals.clock.now()) }
    })
    internals.database.behind.push(this.#marks)
    const schema = withIds(Leaving, internals.ids.kind)
    internals.rpc.handle(FORGET, async (data) => { await this.#leave(checkedData(schema, data)) })
  }

  /** The users of a message have its conversation in their lists when this returns, or resolves. */
  begin (event: NewEvent, transaction?: Executor): MaybePromise<void> {
    const { ids, clock } = this.#internals
    const { tenantId, userId } = event
    const conversation = conversationOf(ids, event)
    if (conversation === null) return
    if (transaction !== undefined) return this.add(this.#marksOf(tenantId, userId, conversation), transaction)
    const key = `${tenantId}/${userId}/${conversation}`
    const known = this.#known.get(key)
    if (typeof known === 'object') return known
    if (known !== undefined && clock.now() - known < KNOWN_MS) return
    const written = Promise.all(this.#marksOf(tenantId, userId, conversation).map(this.#write)).then(() => {
      this.#known.set(key, clock.now())
    }, (err: unknown) => {
      this.#known.delete(key)
      throw err
    })
    // Further messages wait for the first one, and keep their order.
    this.#known.set(key, written)
    return written
  }

  /** A message was sent: its sender has read all earlier ones. */
  sent ({ tenantId, userId, channel, type, messageId }: { tenantId: Id, userId: Id, channel: string, type: string, messageId: number }): string | null {
    const { ids } = this.#internals
    const conversation = conversationOf(ids, { type, channel, userId })
    if (conversation === null || userId === ids.system) return conversation
    const mark: Mark = { tenantId, userId, conversation, readUpTo: messageId }
    const waiting = this.#marks.peek(keyOfMark(mark))
    if (waiting === undefined || waiting.readUpTo < messageId) this.#marks.put(mark)
    return conversation
  }

  /** Lists conversations, in a transaction of the host if there is one. */
  async add (marks: readonly Mark[], transaction?: Executor): Promise<void> {
    // In the host's transaction, whose connection may be the only one.
    this.#from ??= await this.#store.from(transaction)
    const from = this.#from
    await this.#store.add(marks.map((mark) => ({ ...mark, readUpTo: from })), this.#internals.clock.now(), transaction)
  }

  /** Removes a conversation from the lists of users. It returns with messages that they send from now on. */
  async remove (tenantId: Id, userIds: readonly Id[], conversation: string): Promise<void> {
    const { roster, rpc, nodeId, clock } = this.#internals
    const leaving: Leaving = { tenantId, userIds: [...userIds], conversation }
    const others = (await roster.aliveNodes().catch(() => null) ?? []).filter((node) => node !== nodeId)
    await Promise.all([callNodes(rpc, others, { op: FORGET, data: leaving, timeout: FORGET_MS }), this.#leave(leaving)])
    await this.#store.remove(tenantId, userIds, conversation, clock.now())
  }

  /** Discards marks that wait to be written, which would list the conversation again. */
  async #leave ({ tenantId, userIds, conversation }: Leaving): Promise<void> {
    for (const userId of userIds) this.#known.delete(keyOfMark({ tenantId, userId, conversation, readUpTo: 0 }))
    await this.#marks.drain()
  }

  /** The rows of the user were erased, and those of conversations without messages. */
  forget ({ tenantId, userId }: UserRef): void {
    for (const key of this.#known.keys()) {
      const [tenant, user, ...conversation] = key.split('/')
      if (tenant === String(tenantId) && [user, ...conversation].includes(String(userId))) this.#known.delete(key)
    }
  }

  async close (): Promise<void> {
    await this.#marks.close()
  }

  #marksOf (tenantId: Id, userId: Id, conversation: string): Mark[] {
    const { ids } = this.#internals
    const users = isDirectConversation(conversation) ? usersOf(ids, conversation) : [userId]
    return [...new Set(users)].filter((user) => user !== ids.system).map((user) => ({ tenantId, userId: user, conversation, readUpTo: 0 }))
  }
}

const keyOfMark = ({ tenantId, userId, conversation }: Mark): string => `${tenantId}/${userId}/${conversation}`
