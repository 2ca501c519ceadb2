import { REMEMBERED, SILENCE } from './limits.js'
import { nameOf, ownChannel, type Durable, type Core, type Entry } from './state.js'
import type { DeliveredBody } from './wire.js'

/** Delivers durable events to the listeners: each once, and missed events before new ones. */
export interface Delivery {
  /** An event arrived by the socket. It is emitted, with events that were held back for it, or held back itself. */
  take (frame: Durable): unknown
  /** Emits new events, and confirms them if necessary. */
  deliver (frames: readonly Durable[]): void
  /** Remembers an id. False if it was remembered already. */
  see (messageId: number): boolean
  /** The server sent the end of the replay. `isOver`: nothing is replayed, because nothing is missing or too much is. */
  expectReplay (entry: Entry, target: number, isOver: boolean): void
}

export function createDelivery (core: Core): Delivery {
  const { clock, wanted, seen } = core

  const isToMe = ({ event, data: { recipientId, senderId } }: Durable): boolean => event === 'notification:received' ||
    (event === 'message:direct' && (recipientId === undefined ? senderId !== core.me : recipientId === core.me))
  /** The channel whose cursor an event moves. On older servers, whose direct messages name no recipient, the copy of an own one moves none. */
  const channelOf = (frame: Durable): string => frame.data.recipientId !== undefined || isToMe(frame)
    ? ownChannel(core)
    : frame.event === 'broadcast:message' ? 'broadcast' : nameOf(core, String(frame.data.channel))
  const advance = (entry: Entry, id: number): void => { entry.cursor = Math.max(entry.cursor ?? 0, id) }

  /** The replay is over: emits the events after it. */
  const finish = (entry: Entry): Durable[] => {
    const { held, target } = entry.replay!
    entry.replay = undefined
    advance(entry, target)
    return held.sort((a, b) => a.data.messageId - b.data.messageId)
  }
  let stop = (): void => {}
  /** The last event of a replay may never arrive, because it was deleted. Replays follow one another, so they share a timeout. */
  const listenForSilence = (): void => {
    const link = core.link!
    const since = clock.now()
    stop()
    stop = link.after(SILENCE, () => {
      const waiting = [...wanted.values()].filter(({ replay }) => replay && replay.target >= 0)
      if (link.receivedAt > since) for (const entry of waiting) core.deliver(finish(entry))
      else if (waiting.length) {
        link.ping()
        listenForSilence()
      }
    })
  }

  return {
    take: (frame) => {
      const entry = wanted.get(channelOf(frame))
      const id = frame.data.messageId
      const all = [frame]
      if (entry?.replay) {
        // A live event, or one that waited for the user: newer than the replay, which is still to come.
        if (id > entry.replay.target) return entry.replay.held.push(frame)
        listenForSilence()
      }
      // An event of the host's own that names no channel may be the end of a replay, too.
      for (const one of wanted.values()) if (one.replay?.target === id) all.push(...finish(one))
      core.deliver(all)
    },
    deliver: (frames) => {
      const confirmed: number[] = []
      for (const frame of frames) {
        const { event, data } = frame
        const entry = wanted.get(channelOf(frame))
        // A listener has ended it: the rest is delivered after the next start.
        if (core.user.ended) break
        if (entry?.cursor !== undefined && !entry.replay) advance(entry, data.messageId)
        const isNew = core.see(data.messageId)
        if (isNew) core.emit(event as never, data as never)
        // On older servers, which name no recipient, a message that is repeated has not been confirmed, even if this client sent it.
        if (core.confirm && (isToMe(frame) || (!isNew && event === 'message:direct' && data.recipientId === undefined))) confirmed.push(data.messageId)
      }
      // So that the server does not send them again.
      if (core.polled.ended) for (const messageId of confirmed) core.link?.request('message:delivered', { messageId }).catch(() => {})
      else if (confirmed.length) core.call(core.polled, '/messages/delivered', { message_ids: confirmed } satisfies DeliveredBody).catch(() => {})
    },
    see: (messageId) => {
      const isNew = !seen.has(messageId)
      seen.add(messageId)
      if (seen.size > REMEMBERED) seen.delete(seen.values().next().value!)
      return isNew
    },
    expectReplay: (entry, target, isOver) => {
      if (!entry.replay) return advance(entry, target)
      entry.replay.target = target
      if (isOver) core.deliver(finish(entry))
      else listenForSilence()
    }
  }
}
