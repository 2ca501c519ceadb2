import { ClientError } from './errors.js'
import { CHANNELS, SUBSCRIBE_TRIES } from './limits.js'
import { errorOf, type Link } from './link.js'
import { entryOf, learnEpoch, nameOf, ASKED, IDLE, LIVE, type Core, type Entry } from './state.js'
import { isRefusal, retryDelay } from './verdicts.js'
import type { Subscribed, SubscribeAnswer } from './wire.js'

/** The subscriptions of the client, across sockets. */
export interface Subscriptions {
  /** Resolves when the server has subscribed it, which may be after the next connection. */
  subscribe (name: string, options?: { since?: number | undefined }): Promise<Subscribed>
  /** Removes one holder; the last one unsubscribes the channel. Resolves when the server has unsubscribed it. */
  unsubscribe (name: string): Promise<void>
  /** Resumes all subscriptions on a new socket. `automatic`: the channels that the server subscribed itself. */
  resume (link: Link, automatic: readonly string[]): void
  /** The connection ended; with an error, permanently. */
  suspend (err?: ClientError): void
  /** The server's reply. */
  subscribed (entry: Entry, answer: Subscribed): void
  /** The host unsubscribed this connection from a channel. */
  left (channel: string): void
  /** The subscription is refused: it is not retried, and one `error` is emitted. */
  refuse (entry: Entry, err: ClientError): void
}

export function createSubscriptions (core: Core): Subscriptions {
  const { wanted } = core
  /** Cancels the retry of failed subscriptions. */
  let stopWaiting = (): void => {}

  const has = (entry: Entry): boolean => wanted.get(entry.channel) === entry
  const drop = (entry: Entry): void => { wanted.delete(entry.channel) }
  /** Rejects waiting `subscribe` calls, which then no longer hold the channel. False without any. */
  const settle = (entry: Entry, err: ClientError): boolean => {
    const waiters = entry.waiters.splice(0)
    entry.holders -= waiters.length
    for (const { reject } of waiters) reject(err)
    if (waiters.length && !entry.holders && !entry.isAutomatic && entry.cursor === undefined) drop(entry)
    return waiters.length > 0
  }

  const ask = (asked: Iterable<Entry>): void => {
    const { link } = core
    const due = [...asked].filter(has)
    if (!link) return
    const epoch = link.isModern ? core.epoch : undefined
    const size = epoch ? CHANNELS : 1
    for (const entry of due) {
      entry.stage = ASKED
      entry.replay = entry.cursor === undefined ? undefined : { held: [], target: -1 }
    }
    while (due.length) {
      const some = due.splice(0, size)
      const places = some.map(({ channel, cursor: since }) => ({ channel, since }))
      void request(link, some, places.length > 1 ? { channels: places, epoch } : { ...places[0], epoch })
    }
  }
  const request = async (link: Link, some: readonly Entry[], data: object): Promise<void> => {
    try {
      await link.request('subscribe', data, (answer) => {
        const { epoch, channels = [answer as SubscribeAnswer] } = answer as SubscribeAnswer
        const isNew = learnEpoch(core, epoch)
        for (const [i, entry] of some.entries()) {
          const one = channels[i]!
          if (one.error) failed(link, entry, errorOf(one.error))
          else if (has(entry)) core.subscribed(entry, one)
        }
        if (isNew) ask([...wanted.values()].filter(({ owesGap }) => owesGap))
      })
    } catch (err) {
      // One channel may be the cause: each is subscribed with a frame of its own.
      if (some.length > 1 && isRefusal(err as ClientError)) for (const entry of some) ask([entry])
      else for (const entry of some) failed(link, entry, err as ClientError)
    }
  }
  const failed = (link: Link, entry: Entry, err: ClientError): void => {
    if (core.link !== link || link.ended || !has(entry)) return
    entry.stage = IDLE
    // A limit refuses new channels. Earlier ones are kept, and so are channels that may be accepted a moment later.
    if (isRefusal(err) && (err.code !== 'RT_LIMIT_EXCEEDED' || entry.waiters.length)) return core.refuse(entry, err)
    entry.retryAt = core.clock.now() + retryDelay(entry.tries, err, 0)
    if (++entry.tries >= SUBSCRIBE_TRIES) settle(entry, err)
    retry(link)
  }
  /** Requests failed channels again, each when its delay is over. */
  const retry = (link: Link): void => {
    const failed = [...wanted.values()].filter(({ stage }) => !stage)
    const wait = Math.min(...failed.map(({ retryAt }) => retryAt)) - core.clock.now()
    stopWaiting()
    if (wait <= 0) {
      ask(failed.filter(({ retryAt }) => retryAt <= core.clock.now()))
      retry(link)
    } else if (wait < Infinity) stopWaiting = link.after(wait * (1 + core.clock.random() / 4), () => { retry(link) })
  }

  return {
    subscribe: (name, { since } = {}) => new Promise((resolve, reject) => {
      core.run.check()
      const entry = entryOf(core, name)
      const { channel, stage } = entry
      const isNew = Number.isInteger(since)
      entry.holders++
      if (stage === LIVE && !isNew) return resolve({ channel, position: entry.cursor ?? 0 })
      entry.waiters.push({ resolve, reject })
      if (isNew) entry.cursor = since
      if (isNew || !stage) ask([entry])
      core.pollNow()
    }),
    unsubscribe: async (name) => {
      const channel = nameOf(core, name)
      const entry = wanted.get(channel)
      if (entry) {
        if (--entry.holders > (entry.isAutomatic ? -1 : 0)) return
        drop(entry)
        settle(entry, new ClientError('RT_CLIENT_STOPPED'))
      }
      const { link } = core
      await link?.insist(async () => { if (!wanted.has(channel)) await link.request('unsubscribe', { channel }) })
        .catch((err: unknown) => { if (!link.ended) throw err })
      core.emit('unsubscribed', { channel })
    },
    resume: (link, automatic) => {
      core.suspend()
      core.link = link
      for (const entry of wanted.values()) entry.isAutomatic = false
      for (const channel of automatic) entryOf(core, channel).isAutomatic = true
      ask(wanted.values())
    },
    suspend: (err) => {
      core.link = undefined
      for (const entry of [...wanted.values()]) {
        // Events that were held back are after the cursor, and will be replayed.
        entry.replay = undefined
        entry.stage = entry.tries = 0
        if (err) settle(entry, err)
      }
    },
    subscribed: (entry, answer) => {
      const { channel, position, recovered } = answer
      const isGap = recovered === false || entry.owesGap === true
      const isOver = isGap || position <= (entry.cursor ?? 0)
      entry.owesGap = false
      entry.stage = LIVE
      entry.tries = 0
      // The cursor belongs to another log, or its events were purged.
      if (isGap) entry.cursor = position
      for (const { resolve } of entry.waiters.splice(0)) resolve(answer)
      core.emit('subscribed', answer)
      if (isGap) core.emit('gap', { channel, position })
      if (has(entry)) core.expectReplay(entry, position, isOver)
    },
    left: (channel) => {
      const entry = wanted.get(channel)
      if (!entry) return
      drop(entry)
      settle(entry, new ClientError('RT_FORBIDDEN', undefined, { channel }))
    },
    refuse: (entry, { code, message }) => {
      const err = new ClientError(code, message, { channel: entry.channel })
      drop(entry)
      if (!settle(entry, err)) core.emit('error', err)
    }
  }
}
