import { ClientError, type Id, type Member, type Register } from '../index.js'
import { statusStore } from './connection.js'
import { NOTHING, share, useMemo, useRealtime, useStore, type Realtime, type Store } from './context.js'

/** The names of channels, as declared in `Register`. */
export type ChannelName = Register extends { channels: infer Names extends string } ? Names : string
/** A channel, or the direct messages with another user. Nothing while it is null or undefined. */
export type Target = ChannelName | { with: Id } | null | undefined

export interface Channel {
  /** `idle` without a channel; `failed` with an `error`, until the next connection tries again. */
  status: 'idle' | 'subscribing' | 'subscribed' | 'failed'
  error?: ClientError
}

const SUBSCRIBING: Channel = { status: 'subscribing' }
const IDLE: Channel = { status: 'idle' }

/** The subscription shared by all components that use a channel. */
export const channelStore = (realtime: Realtime, channel: string): Store<Channel> => share(realtime, `channel ${channel}`, SUBSCRIBING, (set, on, onEnd) => {
  const { client } = realtime
  let stage: 'none' | 'asked' | 'held' = 'none'
  let isOver = false
  const failed = (error: ClientError): void => {
    stage = 'none'
    // After `disconnect()`, the next connection asks again.
    if (error.code !== 'RT_CLIENT_STOPPED' && !isOver) set({ status: 'failed', error })
  }
  const release = (): void => { client.unsubscribe(channel).catch(NOTHING) }
  const ask = (): void => {
    if (stage !== 'none' || realtime.isOver) return
    stage = 'asked'
    client.subscribe(channel).then(() => {
      stage = 'held'
      if (isOver) release()
      else set({ status: 'subscribed' })
    }, failed)
  }
  ask()
  on('transport', ask)
  on('unsubscribed', ({ channel: name, reason }) => { if (name === channel && reason) failed(new ClientError('RT_FORBIDDEN', reason, { channel })) })
  on('error', (error) => { if (error.channel === channel) failed(error) })
  // It writes errors to the console.
  onEnd(statusStore(realtime).subscribe(() => {}))
  onEnd(() => {
    isOver = true
    if (stage === 'held' && !realtime.isOver) release()
  })
})

/** Subscribes to a channel while the component is mounted. Components that name the same channel share the subscription. */
export function useChannel (channel: ChannelName | null | undefined): Channel {
  const realtime = useRealtime()
  return useStore(channel ? channelStore(realtime, channel) : share(realtime, '', IDLE, NOTHING))
}

export interface Members {
  /** The first 500 of a larger channel. Empty after a change if the server sends only the number of members. */
  members: readonly Member[]
  count: number
}

const NOBODY: Members = { members: [], count: 0 }

interface Heard { channel: string, count?: number, version?: number, members?: readonly Member[], joined?: readonly Member[], left?: readonly Id[] }

/** The members of a channel, which it subscribes to. The server needs the option `members` for the channel. */
export function useMembers (channel: ChannelName | null | undefined): Members {
  const realtime = useRealtime()
  return useStore(share(realtime, `members ${channel}`, NOBODY, (set, on, onEnd) => {
    if (!channel) return
    let all: readonly Member[] = []
    let version = 0
    let round = 0
    const show = (members: readonly Member[], count: number, now: number): void => {
      version = now
      set({ members: all = members, count })
    }
    const read = (): void => {
      const now = ++round
      realtime.client.get(`/channels/${encodeURIComponent(channel)}/members?limit=500`).then((page) => {
        const { data, total, version: next } = page as { data: Array<{ user_id: Id, name: string | null }>, total: number, version: number }
        if (now === round && next >= version) show(data.map(({ user_id: userId, name }) => ({ userId, name })), total, next)
      // A channel without members, or no connection: the next subscription brings them.
      }).catch(NOTHING)
    }
    const heard = ({ channel: name, count, version: next = 0, members, joined, left = [] }: Heard): void => {
      if (name !== channel || count === undefined) return
      if (joined && next === version + 1) {
        members = [...all.filter(({ userId }) => !left.includes(userId) && !joined.some((one) => one.userId === userId)), ...joined]
      }
      if (!members && next > version) read()
      // Only the number: the known members may have left.
      show(members ?? (next ? all : []), count, members ? next : version)
    }
    for (const event of ['subscribed', 'channel:members', 'channel:count'] as const) on(event, heard)
    const subscription = channelStore(realtime, channel)
    onEnd(subscription.subscribe(() => {}))
    if (subscription.get().status === 'subscribed') read()
  }))
}

export interface Typing {
  /** Who is typing, without the user. */
  users: readonly Id[]
  /** Call it for each keystroke; few frames are sent. Typing ends after a while, with `false`, or when the message is sent. */
  record (isTyping?: boolean): void
}

const noOne: readonly Id[] = []

/** The conversation of a hook. Each side of a direct conversation has a label of its own. */
export interface Place { channel?: string | undefined, peer?: Id | undefined, label: string }
export const placeOf = (target: Target, label?: string): Place => typeof target === 'string'
  ? { channel: target, label: label ?? target }
  : { peer: target?.with, label: label ?? `direct:${target?.with}` }

/** Who is typing in a channel, which it subscribes to, or to the user. */
export function useTyping (target: Target, options: { conversationId?: string | undefined } = {}): Typing {
  const realtime = useRealtime()
  const { client } = realtime
  const { channel, peer, label } = placeOf(target, options.conversationId)
  const users = useStore(share(realtime, `typing ${channel} ${label}`, noOne, (set, on, onEnd) => {
    if (!target) return
    let all = noOne
    on('user:typing', ({ userId, isTyping, conversationId, conversationType }) => {
      const isHere = channel ? conversationId === label : userId === peer && conversationType === 'direct'
      if (isHere && userId !== client.userId) set(all = [...all.filter((id) => id !== userId), ...isTyping ? [userId] : []])
    })
    on('disconnected', () => { set(all = noOne) })
    if (channel) onEnd(channelStore(realtime, channel).subscribe(() => {}))
  }))
  const record = useMemo(() => (isTyping = true) => {
    if (target) client.recordTyping(label, isTyping, channel ? { channel } : { recipientId: peer })
  }, [client, channel, label])
  return { users, record }
}
