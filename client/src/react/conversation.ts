import type { ClientError, Id, ServerEvents, Where } from '../index.js'
import { channelStore, placeOf, type Target } from './channels.js'
import { NOTHING, share, useMemo, useRealtime, useStore, type Realtime, type Store } from './context.js'
import { merge, messageOf, peerOf, type Message, type StoredMessage } from './messages.js'

export interface ConversationOptions {
  /** Messages per page of history, at most 200. Default 50. */
  pageSize?: number | undefined
  /** The label of the messages that are sent. Default: the channel, or `direct:` and the id of the other user. */
  conversationId?: string | undefined
}

export interface ConversationState {
  /** Ascending by id; unsent messages come last. */
  messages: readonly Message[]
  /** `loading` while history is being read; `failed` with an `error`: the newest messages are read again with the next connection, older ones by `loadMore`. */
  status: 'loading' | 'ready' | 'failed'
  error?: ClientError | undefined
  /** There are older messages. */
  hasMore: boolean
  /** The user's own mark. */
  readUpTo: number
  /** The marks of others, by user id; none in a channel of more than `receiptsUpTo` participants. */
  reads: ReadonlyMap<Id, number>
}

/** The functions stay the same while the conversation does. */
export interface ConversationActions {
  /** Shows the message at once, and sends it when there is a connection. */
  send (message: string, data?: object): void
  /** Sends a message again that failed. It is stored once, even if only its ack was lost. */
  retry (message: Message): void
  /** Removes a message that failed. */
  discard (message: Message): void
  edit (messageId: number, message: string, data?: object | null): Promise<void>
  remove (messageId: number): Promise<void>
  /** Loads the page before the oldest message. Problems are in `error`. */
  loadMore (): Promise<void>
  /** Marks the conversation as read, up to the newest message unless another is given. */
  markRead (messageId?: number): void
}

export type Conversation = ConversationState & ConversationActions

const START: ConversationState = { messages: [], status: 'loading', hasMore: false, readUpTo: 0, reads: new Map() }

const DELETED = { message: '', data: null, isDeleted: true }

interface ConversationStore extends Store<ConversationState> { actions: ConversationActions }

function conversationStore (realtime: Realtime, name: string, target: Target, { pageSize, conversationId }: ConversationOptions): ConversationStore {
  const { client } = realtime
  const { channel, peer, label } = placeOf(target, conversationId)
  const where = (channel ? { channel } : { with: peer }) as Where

  let state = START
  let show: () => void = () => {}
  let stored: readonly Message[] = []
  let waiting: readonly Message[] = []
  /** Changes that arrived while history was being read, which may be older than they are. */
  const changes = new Map<number, Partial<Message>>()
  /** Changes when everything is read again: earlier requests are ignored then. */
  let round = 0
  let isRead = false
  /** The mark that is not sent to the server yet. */
  let due = 0

  const set = (change?: Partial<ConversationState>): void => {
    state = { ...state, ...change, messages: [...stored, ...waiting] }
    show()
  }
  const isHere = (data: Pick<StoredMessage, 'channel' | 'senderId' | 'recipientId'>): boolean =>
    data.channel === channel && peerOf(data, client.userId) === peer
  const change = (targetId: number, to: Partial<Message>): void => {
    changes.set(targetId, to)
    stored = stored.map((message) => message.id === targetId ? { ...message, ...to } : message)
    set()
  }
  /** Marks never move back, regardless of the order in which they arrive. */
  const move = ({ userId, readUpTo }: ServerEvents['conversation:read']): void => {
    const { reads } = state
    if (userId === client.userId) {
      if (readUpTo > state.readUpTo) set({ readUpTo })
    } else if (!(reads.get(userId)! >= readUpTo)) set({ reads: new Map(reads).set(userId, readUpTo) })
  }
  const read = async (before?: number): Promise<void> => {
    // After reading again, everything else is out of date, except changes that arrive meanwhile.
    if (!before) {
      round++
      stored = []
    }
    const now = round
    isRead = true
    changes.clear()
    set({ status: 'loading' })
    try {
      const { data, more, reads } = await client.history({ ...where, before, limit: pageSize })
      if (now !== round) return
      reads?.forEach(({ data }) => { move(data) })
      stored = merge(data.map((frame) => messageOf(frame.data as unknown as StoredMessage, client.userId)), stored)
      for (const one of changes) change(...one)
      set({ status: 'ready', error: undefined, hasMore: more })
    } catch (error) {
      if (now !== round) return
      isRead = !!before
      set({ status: 'failed', error: error as ClientError })
    }
  }
  const without = (key: string): readonly Message[] => waiting.filter((one) => one.key !== key)
  const wait = (message: Message): void => {
    waiting = [...without(message.key), message]
    set()
  }
  const transmit = (failed: Message): void => {
    const message: Message = { ...failed, status: 'sending', error: undefined }
    const { key: dedupeId, data, message: text } = message
    const event = channel ? 'message:group' : 'message:direct'
    const to = channel ? { channel } : { recipientId: peer }
    wait(message)
    client.send(event, { ...to, message: text, data, conversationId: label, dedupeId } as never).then(({ messageId: id, timestamp }) => {
      waiting = without(dedupeId)
      stored = merge([{ ...message, id, timestamp, userId: client.userId, status: 'sent' }], stored)
      set({ readUpTo: id })
      realtime.sent?.()
    }, (error: ClientError) => { if (waiting.includes(message)) wait({ ...message, status: 'failed', error }) })
  }
  /** Repeated after each connection until the server has the mark. */
  const mark = (): void => {
    if (!due) return
    client.markRead(where, due).then((ack) => {
      due = 0
      realtime.read?.(where, ack)
    }, NOTHING)
  }

  return share(realtime, name, START, (setStore, on, onEnd) => {
    if (!target) return
    show = () => { setStore(state) }
    const subscription = channel ? channelStore(realtime, channel) : undefined
    /** Reads history once the channel is subscribed, so that no new message is missed. */
    const begin = (): void => {
      const { status, error } = subscription?.get() ?? { status: 'subscribed' }
      if (error) set({ status: 'failed', error })
      else if (status === 'subscribed' && client.transport && !isRead) void read()
    }
    const take = (data: StoredMessage): void => {
      if (!isHere(data)) return
      stored = merge([messageOf(data, client.userId)], stored)
      set()
    }
    on('message:group', take)
    on('message:direct', take)
    on('message:edited', (event) => {
      const { targetId, message, data, editedAt } = event
      if (isHere(event)) change(targetId, { message, data, editedAt })
    })
    on('message:deleted', (event) => { if (isHere(event)) change(event.targetId, DELETED) })
    on('conversation:read', (event) => { if (isHere(event)) move(event) })
    on('gap', (gap) => { if (!channel || gap.channel === channel) void read() })
    on('transport', () => {
      begin()
      mark()
    })
    onEnd(() => {
      round++
      state = START
      stored = waiting = []
      isRead = false
      due = 0
    })
    if (subscription) onEnd(subscription.subscribe(begin))
    begin()
  }, {
    actions: {
      send: (message: string, data?: object) => {
        if (target) transmit({ key: `${Math.random()}`, userId: client.userId, isMine: true, message, data, timestamp: new Date().toISOString(), status: 'sending' })
      },
      retry: transmit,
      discard: ({ key }: Message) => {
        waiting = without(key)
        set()
      },
      edit: (messageId: number, message: string, data?: object | null) => client.edit(messageId, message, data).then(({ editedAt }) => {
        change(messageId, { message, editedAt, ...data !== undefined && { data } })
      }),
      remove: (messageId: number) => client.delete(messageId).then(() => { change(messageId, DELETED) }),
      loadMore: async () => {
        if (state.hasMore && state.status !== 'loading') await read(stored[0]?.id)
      },
      markRead: (messageId: number = stored[stored.length - 1]?.id ?? 0) => {
        if (messageId <= state.readUpTo) return
        set({ readUpTo: due = messageId })
        mark()
      }
    }
  })
}

/**
 * The messages of a channel, or with another user: history and live messages, with edits and deletes applied. The user's own messages are shown at once. The
 * server needs the plugin `conversations`.
 */
export function useConversation (target: Target, options: ConversationOptions = {}): Conversation {
  const realtime = useRealtime()
  const name = JSON.stringify([target, options])
  const store = useMemo(() => conversationStore(realtime, name, target, options), [realtime, name])
  return { ...useStore(store), ...store.actions }
}
