import { ClientError, toClientError } from './errors.js'
import { randomId } from './globals.js'
import { KNOWN_FOR, PROBE, SEND_TRIES } from './limits.js'
import { encode, type Carrier } from './link.js'
import type { Core } from './state.js'
import { isPassing, retryDelay } from './verdicts.js'

interface Item {
  event: string
  data: object
  /** The address. Sends to the same address keep their order. */
  lane: string
  resolve: (ack: unknown) => void
  reject: (err: ClientError) => void
  /** Time of the first attempt since it was last known not to be stored. */
  sentAt?: number | undefined
  /** Number of failures of its own. From the first one on, later sends do not wait for it. */
  tries: number
  lost: number
  /** Time before which it is not attempted. */
  at: number
}

/**
 * The queue of durable sends, one in flight at a time, in order. Each keeps its `dedupeId`, so that a send whose ack was lost can
 * be repeated and is stored once. A postponed send delays those to the same address; a failing one delays none.
 */
export interface Outbox {
  /** Resolves with the ack. Rejects with the server's refusal, `RT_INVALID_DATA`, `RT_QUEUE_FULL`, `RT_OUTCOME_UNKNOWN`, or the error passed to `stop`. */
  enqueue (event: string, data: object): Promise<never>
  /** Sets the transport; null without one. */
  sendBy (carrier: Carrier | null): void
  /** Rejects all queued sends. */
  rejectSends (err: ClientError): void
}

export function createOutbox (core: Core): Outbox {
  const items = new Set<Item>()
  let current: Carrier | null = null
  /** The loop that is at work. */
  let loop: object | undefined
  /** After a refusal nothing is tried before. */
  let probeAt = 0
  let cancel = (): void => {}

  const reject = (item: Item, err: ClientError): void => {
    items.delete(item)
    item.reject(err)
  }
  /** `since`: when it was first on its way before this try. */
  const failed = (item: Item, carrier: Carrier, err: ClientError, since: number | undefined): void => {
    // The transport is closed: the item is sent by the next one.
    if (err.code === 'RT_CLIENT_STOPPED' || (err.code === 'RT_SOCKET_CLOSED' && err.closeCode)) {
      if (current === carrier) current = null
      // A restart of the server does not count; a send that closes one socket after the other does.
      if (err.closeCode && err.closeCode !== 1012 && ++item.lost >= SEND_TRIES) reject(item, new ClientError('RT_OUTCOME_UNKNOWN', undefined, { cause: err }))
      return
    }
    if (!isPassing(err)) return reject(item, err)
    // The server or a proxy fails on this send, or the host cannot decide about it, which gets twice as many attempts.
    if (/INTERNAL|RT_UNAV/.test(err.code) || (err.status! < 500 && err.code === 'RT_SERVER_UNREACHABLE')) item.tries += err.code === 'RT_UNAVAILABLE' ? 0.5 : 1
    if (item.tries >= SEND_TRIES) return reject(item, err)
    if (/LIMITED|RT_UNAV/.test(err.code) || err.outcome === 'none') item.sentAt = since
    const delay = retryDelay(item.tries, err, core.clock.random())
    item.at = core.clock.now() + delay
    if (item.tries < 1) probeAt = core.clock.now() + Math.min(delay, PROBE)
  }
  const send = async (item: Item, carrier: Carrier): Promise<void> => {
    const { event, data, sentAt } = item
    const now = core.clock.now()
    item.sentAt = sentAt ?? now
    if (now - item.sentAt > KNOWN_FOR) return reject(item, new ClientError('RT_OUTCOME_UNKNOWN'))
    try {
      item.resolve(await carrier(event, data, (ack) => {
        const { messageId } = ack as { messageId?: number }
        // Events to everyone or to oneself are also delivered to the sender; events sent by REST, to all connections of the sender.
        const arrivesAnyway = /^[bn]/.test(event) || (data as { recipientId?: unknown }).recipientId === core.me
        if (items.delete(item) && messageId && !arrivesAnyway && carrier === core.link?.request) core.see(messageId)
      }))
    } catch (err) {
      if (items.has(item)) failed(item, carrier, toClientError(err), sentAt)
    }
  }
  /** The first send that is ready, or the milliseconds until one is. */
  const next = (): Item | number => {
    const now = core.clock.now()
    const held = new Set<string>()
    let wait = Infinity
    for (const item of items) {
      if (held.has(item.lane)) continue
      const left = Math.max(item.at, probeAt) - now
      if (left <= 0) return item
      wait = Math.min(wait, left)
      if (item.tries < 1) held.add(item.lane)
    }
    return wait
  }
  const flush = async (): Promise<void> => {
    if (loop) return
    const mine = loop = {}
    cancel()
    while (current && loop === mine) {
      const item = next()
      if (typeof item === 'number') {
        if (item < Infinity) cancel = core.clock.after(item, () => { void flush() })
        break
      }
      await send(item, current)
    }
    if (loop === mine) loop = undefined
  }

  return {
    enqueue: (event, data) => new Promise<never>((resolve, reject) => {
      core.run.check()
      const { dedupeId = randomId(core.clock.random), ...rest } = data as { dedupeId?: string, channel?: string, recipientId?: string }
      // Leaves room for the envelope of the frame.
      encode({ event, data, dedupeId, id: 2 ** 53 }, core.maxFrameSize)
      if (items.size >= core.maxQueued) return reject(new ClientError('RT_QUEUE_FULL'))
      items.add({ event, data: { dedupeId, ...rest }, lane: String(rest.channel ?? rest.recipientId ?? event), resolve: resolve as Item['resolve'], reject, tries: 0, lost: 0, at: 0 })
      void flush()
    }),
    sendBy: (carrier) => {
      cancel()
      current = carrier
      // A send that was postponed on the last transport may work on this one.
      probeAt = 0
      void flush()
    },
    rejectSends: (err) => {
      core.sendBy(null)
      // A reply that arrives later is ignored.
      loop = undefined
      for (const item of items) reject(item, err)
    }
  }
}
