import type { Conversation, Id, Where } from '../index.js'
import { globals } from '../globals.js'
import { NOTHING, share, useRealtime, useStore } from './context.js'
import { peerOf, type StoredMessage } from './messages.js'

export interface Unread {
  /** The unread messages of all conversations. */
  total: number
  /** Latest activity first, at most 200; each with its `unread` (100: 100 or more) and its `last` message. */
  conversations: readonly Conversation[]
}

const NONE: Unread = { total: 0, conversations: [] }
/** Milliseconds until the list is read again for changes that events do not contain. */
const LATER = 1000

const lastOf = ({ last }: Conversation): number => (last ? last.data.messageId as number : 0)

/** The user's conversations and their unread messages. The server needs the plugin `conversations`. */
export function useUnread (): Unread {
  const realtime = useRealtime()
  return useStore(share(realtime, 'unread', NONE, (set, on, onEnd) => {
    const { client } = realtime
    let list: readonly Conversation[] = []
    let timer: unknown
    const show = (next: readonly Conversation[]): void => {
      list = next
      set({ conversations: list, total: list.reduce((sum, { unread }) => sum + unread, 0) })
    }
    const load = (): void => {
      timer = undefined
      // Without a connection, the next one asks again.
      if (client.transport) client.conversations({ limit: 200 }).then(({ data }) => { show(data) }, NOTHING)
    }
    const later = (): void => { timer ??= globals.setTimeout(load, LATER) }
    const change = (channel: string | undefined, peer: Id | undefined, to: (one: Conversation) => Partial<Conversation>): void => {
      const one = list.find((one) => one.channel === channel && one.with === peer)
      if (one) show([{ ...one, ...to(one) }, ...list.filter((other) => other !== one)].sort((a, b) => lastOf(b) - lastOf(a)))
      else later()
    }
    const take = (event: string, data: StoredMessage): void => {
      const { userId, channel, senderId = userId, messageId, timestamp } = data
      if (senderId === client.userId) return later()
      change(channel, peerOf(data, client.userId), (one) => lastOf(one) >= messageId ? {} : {
        last: { event, data: { ...data } }, last_at: timestamp, unread: Math.min(100, one.unread + 1)
      })
    }
    realtime.sent = later
    realtime.read = (where: Where, { unread, readUpTo }) => { change(where.channel, where.with, () => ({ unread, read_up_to: readUpTo })) }
    for (const event of ['message:group', 'message:direct'] as const) on(event, (data) => { take(event, data) })
    for (const event of ['conversation:activity', 'message:edited', 'message:deleted'] as const) on(event, later)
    on('conversation:read', ({ userId }) => { if (userId === client.userId) later() })
    on('transport', load)
    onEnd(() => {
      globals.clearTimeout(timer)
      realtime.sent = realtime.read = undefined
    })
    load()
  }))
}
