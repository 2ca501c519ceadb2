import { ClientError, isPassing } from './errors.js'
import type { Carrier } from './link.js'
import type { Settings } from './options.js'
import type { Frame, Subscribed } from './types.js'

/** A durable event. */
export type Durable = Frame & { data: { messageId: number } }

/** One channel the client wants to hear. */
export interface Entry {
  channel: string
  /** Nothing up to this id is missing; absent: it was never subscribed. */
  cursor?: number | undefined
  /**
   * While the server is asked to go on from the cursor: what comes before the replay does not move the cursor, or the
   * replay would be lost with the socket. Absent: nothing is known to be missing.
   */
  held?: Durable[] | undefined
  /** The id that ends the replay; -1 until it is known. */
  target: number
  waiters: Array<{ resolve: (answer: Subscribed) => void, reject: (err: ClientError) => void }>
}

/** What the client wants to hear, how far it has heard it, and what it heard before. */
export interface Subscriptions {
  readonly entries: Map<string, Entry>
  /** Resolves when the server has subscribed it, which may be after the next connection. */
  add (name: string, since?: number): Promise<Subscribed>
  /** Answers the channel's own name. */
  remove (name: string): string
  /** Who the client is: only now has `user:me` a name. */
  identify (userId?: number): void
  /** A new socket: everything is subscribed again, from where it was left. `automatic`: what the server subscribed by itself. */
  resume (carrier: Carrier, userId: number, automatic: readonly string[]): void
  /** The connection is gone; with an error, for good. */
  suspend (err?: ClientError): void
  /** A durable event came by the socket: it is delivered, with those held back for it, or held back itself. */
  take (frame: Durable): void
  /** Tells durable events that were not told before, and that they came. */
  deliver (frames: readonly Durable[]): void
  /** The server's answer. */
  subscribed (entry: Entry, answer: Subscribed): void
  /** Not allowed, or not any more: it is not asked for again, and one error says so. */
  refuse (entry: Entry, err: ClientError): void
}

/** Ids remembered to drop repeats: more than one replay, and the rows around it that the server sends again to be sure. */
const REMEMBERED = 4096
const ME = 'user:me'

export function createSubscriptions ({ clock, since, confirm }: Settings, emit: (event: string, data: unknown) => void): Subscriptions {
  const entries = new Map<string, Entry>()
  const seen = new Set<number>()
  let me = 0
  let current: Carrier | null = null

  const resolveName = (name: string): string => name === ME && me ? `private-user.${me}` : name
  const entryOf = (name: string): Entry => {
    const channel = resolveName(name)
    const entry = entries.get(channel) ?? { channel, target: -1, waiters: [] }
    entries.set(channel, entry)
    return entry
  }
  /** False: nobody waited. */
  const settle = (entry: Entry, err: ClientError): boolean => entry.waiters.splice(0).map(({ reject }) => { reject(err) }).length > 0

  /** The replay ends with its target: from there on, what was held back. */
  const reached = (entry: Entry, id: number): Durable[] => {
    const { held } = entry
    if (!held || entry.target !== id) return []
    held.sort((a, b) => a.data.messageId - b.data.messageId)
    entry.held = undefined
    entry.cursor = held.at(-1)?.data.messageId ?? id
    return held
  }
  /** It stands on the user's own channel, and waits to be confirmed. */
  const isToMe = ({ event, data }: Frame): boolean => event === 'notification:received' || (event === 'message:direct' && data.senderId !== me)
  /** The channel whose cursor an event moves. A copy of one's own direct message stands on the recipient's. */
  const channelOf = (frame: Frame): unknown => isToMe(frame)
    ? resolveName(ME)
    : frame.event === 'broadcast:message' ? 'broadcast' : frame.event === 'message:direct' ? null : frame.data.channel

  const subscribe = async (carrier: Carrier, entry: Entry): Promise<void> => {
    const { channel, cursor } = entry
    entry.held = cursor === undefined ? undefined : []
    entry.target = -1
    const isStill = (): boolean => current === carrier && entries.get(channel) === entry
    try {
      await carrier('subscribe', { channel, since: cursor }, (answer) => {
        if (isStill()) subscriptions.subscribed(entry, answer as Subscribed)
      })
    } catch (thrown) {
      const err = thrown as ClientError
      if (!isStill() || err.code === 'RT_SOCKET_CLOSED') return
      if (!isPassing(err)) subscriptions.refuse(entry, err)
      else clock.after(((err.retryAfter ?? 1) + clock.random()) * 1000, () => { if (isStill()) void subscribe(carrier, entry) })
    }
  }

  const subscriptions: Subscriptions = {
    entries,
    add: (name, from) => new Promise((resolve, reject) => {
      const entry = entryOf(name)
      entry.cursor = from ?? entry.cursor
      entry.waiters.push({ resolve, reject })
      if (current) void subscribe(current, entry)
    }),
    remove: (name) => {
      const entry = entryOf(name)
      settle(entry, new ClientError('RT_CLIENT_STOPPED'))
      entries.delete(entry.channel)
      return entry.channel
    },
    identify: (userId = 0) => {
      me = userId
      const waiters = entries.get(ME)?.waiters ?? []
      if (entries.delete(ME)) entryOf(ME).waiters.push(...waiters)
    },
    resume: (carrier, userId, automatic) => {
      subscriptions.identify(userId)
      current = carrier
      automatic.forEach(entryOf)
      for (const entry of entries.values()) void subscribe(carrier, entry)
    },
    suspend: (err) => {
      current = null
      for (const entry of entries.values()) {
        // What was held back stands behind the cursor, and comes again.
        entry.held = undefined
        if (err) settle(entry, err)
      }
    },
    take: (frame) => {
      const entry = entries.get(channelOf(frame) as string)
      const id = frame.data.messageId
      if (entry?.held && id > entry.target) {
        // Live, or what waited for the user: newer than the replay, which comes yet.
        entry.held.push(frame)
        return
      }
      if (entry && !entry.held && id > (entry.cursor ?? id)) entry.cursor = id
      // An event of the host's own that names no channel may be the end of a replay, too.
      subscriptions.deliver([frame, ...[...entries.values()].flatMap((one) => reached(one, id))])
    },
    deliver: (frames) => {
      for (const frame of frames) {
        const { event, data } = frame
        const { messageId } = data
        const isRepeat = seen.has(messageId)
        seen.add(messageId)
        if (seen.size > REMEMBERED) seen.delete(seen.values().next().value ?? 0)
        if (!isRepeat) emit(event, data)
        // What the server sends again lacks its confirmation, whoever sent it.
        if (confirm && (isToMe(frame) || (isRepeat && event === 'message:direct'))) current?.('message:delivered', { messageId }).catch(() => {})
      }
    },
    subscribed: (entry, answer) => {
      const { channel, position, recovered } = answer
      const { cursor } = entry
      entry.target = position
      for (const { resolve } of entry.waiters.splice(0)) resolve(answer)
      if (!entry.held) entry.cursor = Math.max(cursor ?? 0, position)
      emit('subscribed', answer)
      if (recovered === false) emit('gap', { channel, position })
      // Nothing comes: there is nothing newer, or it is too much.
      if (recovered === false || position <= (cursor ?? 0)) subscriptions.deliver(reached(entry, position))
    },
    refuse: (entry, err) => {
      const { channel } = entry
      entries.delete(channel)
      if (!settle(entry, Object.assign(err, { channel }))) emit('error', err)
    }
  }
  for (const [channel, cursor] of Object.entries(since)) entryOf(channel).cursor = cursor
  return subscriptions
}
