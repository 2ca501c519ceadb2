import type { ClientClock } from './clock.js'
import { nameOf, ownChannel, type Durable, type Entry, type State } from './state.js'

/** Durable events on their way to the listeners: each once, and those that were missed before those that are new. */
export interface Delivery {
  /** An event came by the socket: it is told, with those held back for it, or held back itself. */
  take (frame: Durable): unknown
  /** Tells events that were not told before; those that the server waits to see confirmed are confirmed. */
  deliver (frames: readonly Durable[]): void
  /** Remembers an id. False: it was known. */
  see (messageId: number): boolean
  /** The server answered where the replay ends. `isOver`: nothing comes, for there is nothing newer or it is too much. */
  expect (entry: Entry, target: number, isOver: boolean): void
}

/** Ids remembered to drop repeats: more than one replay, and the rows around it that the server sends again to be sure. */
const REMEMBERED = 4096
/** Milliseconds without an event of any replay, while the socket is alive, after which all are over. */
const SILENCE = 10_000

export function createDelivery (state: State, clock: ClientClock, emit: (event: string, data: unknown) => void, confirm: (messageIds: number[]) => void): Delivery {
  const { entries, seen } = state

  const isToMe = ({ event, data: { recipientId, senderId } }: Durable): boolean => event === 'notification:received' ||
    (event === 'message:direct' && (recipientId === undefined ? senderId !== state.me : recipientId === state.me))
  /** The channel whose cursor an event moves. A copy of one's own direct message moves none: it may stand on the recipient's. */
  const channelOf = (frame: Durable): string => isToMe(frame)
    ? ownChannel(state)
    : frame.event === 'broadcast:message' ? 'broadcast' : nameOf(state, String(frame.data.channel))
  const advance = (entry: Entry, id: number): void => { entry.cursor = Math.max(entry.cursor ?? 0, id) }

  /** The replay is over: what follows it. */
  const finish = (entry: Entry): Durable[] => {
    const { held, target } = entry.replay!
    entry.replay = undefined
    advance(entry, target)
    return held.sort((a, b) => a.data.messageId - b.data.messageId)
  }
  let stop = (): void => {}
  /** Targets may never come: their events may have been deleted. One replay follows the other, so all are waited for together. */
  const listenForSilence = (): void => {
    const [link, since] = [state.link!, clock.now()]
    stop()
    stop = link.scope.after(SILENCE, () => {
      const waiting = [...entries.values()].filter(({ replay }) => replay && replay.target >= 0)
      if (link.heardAt > since) for (const entry of waiting) delivery.deliver(finish(entry))
      else if (waiting.length) {
        link.ping()
        listenForSilence()
      }
    })
  }

  const delivery: Delivery = {
    take: (frame) => {
      const entry = entries.get(channelOf(frame))
      const id = frame.data.messageId
      const all = [frame]
      if (entry?.replay) {
        // Live, or what waited for the user: newer than the replay, which comes yet.
        if (id > entry.replay.target) return entry.replay.held.push(frame)
        listenForSilence()
      }
      // An event of the host's own that names no channel may be the end of a replay, too.
      for (const one of entries.values()) if (one.replay?.target === id) all.push(...finish(one))
      delivery.deliver(all)
    },
    deliver: (frames) => {
      const confirmed: number[] = []
      for (const frame of frames) {
        const { event, data } = frame
        const entry = entries.get(channelOf(frame))
        // A listener has ended it: the rest comes when it begins again.
        if (state.user!.ended) break
        if (entry?.cursor !== undefined && !entry.replay) advance(entry, data.messageId)
        const isNew = delivery.see(data.messageId)
        if (isNew) emit(event, data)
        // What the server sends again lacks its confirmation, whoever sent it.
        if (isToMe(frame) || (!isNew && event === 'message:direct')) confirmed.push(data.messageId)
      }
      confirm(confirmed)
    },
    see: (messageId) => {
      const isNew = !seen.has(messageId)
      seen.add(messageId)
      if (seen.size > REMEMBERED) seen.delete(seen.values().next().value!)
      return isNew
    },
    expect: (entry, target, isOver) => {
      if (!entry.replay) return advance(entry, target)
      entry.replay.target = target
      if (isOver) delivery.deliver(finish(entry))
      else listenForSilence()
    }
  }
  return delivery
}
