import type { ClientClock } from './clock.js'
import { ClientError } from './errors.js'
import { randomId } from './globals.js'
import { isTooLarge, tooLarge, type Carrier } from './link.js'
import { isPassing, retryDelay } from './verdicts.js'

/** Milliseconds. The server remembers a `dedupeId` for 5 minutes; a later repetition would be stored again. */
const KNOWN_FOR = 290_000
/** Attempts for a send that fails, and sockets that may be lost while the same send is in flight. */
const MAX_TRIES = 5
/** Milliseconds until another send is attempted after one was postponed: it may have to wait for the same reason. */
const PROBE = 1000

interface Item {
  event: string
  data: object
  /** The address. Sends to the same address keep their order. */
  lane: string
  resolve: (ack: unknown) => void
  reject: (err: ClientError) => void
  /** Time of the first attempt since it was last known not to be stored. */
  sentAt?: number | undefined
  tries: number
  lost: number
  /** Time before which it is not attempted. */
  at: number
  /** The send itself failed: later ones do not wait for it. */
  isAside?: boolean
}

/**
 * The queue of durable sends, one in flight at a time, in order. Each keeps its `dedupeId`, so that a send whose ack was lost can
 * be repeated and is stored once. A postponed send delays those to the same address; a failing one delays none.
 */
export interface Outbox {
  /** Resolves with the ack. Rejects with the server's refusal, `RT_INVALID_DATA`, `RT_QUEUE_FULL`, `RT_OUTCOME_UNKNOWN`, or the error passed to `stop`. */
  add (event: string, data: object): Promise<unknown>
  /** Sets the transport; null if there is none. */
  carry (carrier: Carrier | null): void
  /** Rejects all queued sends. */
  stop (err: ClientError): void
}

/** `acked` is called with each ack before the next frame is handled. */
export function createOutbox (clock: ClientClock, max: number, maxFrameSize: number, acked: (event: string, data: object, ack: object, carrier: Carrier) => void): Outbox {
  const items = new Set<Item>()
  let current: Carrier | null = null
  /** Number of the current send loop. Earlier loops stop. */
  let loops = 0
  let isBusy = false
  /** Time before which nothing is attempted, after a refusal. */
  let probeAt = 0
  let cancel = (): void => {}

  const reject = (item: Item, err: ClientError): void => {
    items.delete(item)
    item.reject(err)
  }
  const failed = (item: Item, carrier: Carrier, err: ClientError): void => {
    // The transport is closed: the next one sends the item.
    if (err.code === 'RT_CLIENT_STOPPED' || (err.code === 'RT_SOCKET_CLOSED' && err.closeCode)) {
      if (current === carrier) current = null
      // A restart of the server does not count; a send that closes one socket after the other does.
      if (err.closeCode && err.closeCode !== 1012 && ++item.lost >= MAX_TRIES) reject(item, new ClientError('RT_OUTCOME_UNKNOWN', undefined, { cause: err }))
      return
    }
    if (!isPassing(err)) return reject(item, err)
    // Or a proxy rejects it.
    item.isAside = err.code === 'RT_INTERNAL' || (err.status! < 500 && err.code === 'RT_SERVER_UNREACHABLE')
    if (item.isAside && ++item.tries >= MAX_TRIES) return reject(item, err)
    if (/LIMITED|RT_UNAV/.test(err.code) || err.outcome === 'none') item.sentAt = undefined
    const delay = retryDelay(item.tries, err, clock.random())
    item.at = clock.now() + delay
    if (!item.isAside) probeAt = clock.now() + Math.min(delay, PROBE)
  }
  const send = async (item: Item, carrier: Carrier): Promise<void> => {
    const { event, data } = item
    const now = clock.now()
    item.sentAt ??= now
    if (now - item.sentAt > KNOWN_FOR) return reject(item, new ClientError('RT_OUTCOME_UNKNOWN'))
    try {
      item.resolve(await carrier(event, data, (ack) => { if (items.delete(item)) acked(event, data, Object(ack) as object, carrier) }))
    } catch (err) {
      if (items.has(item)) failed(item, carrier, err as ClientError)
    }
  }
  /** The first send that is ready, or the milliseconds until one is. */
  const next = (): Item | number => {
    const now = clock.now()
    const held = new Set<string>()
    let wait = Infinity
    for (const item of items) {
      if (held.has(item.lane)) continue
      const left = Math.max(item.at, probeAt) - now
      if (left <= 0) return item
      wait = Math.min(wait, left)
      if (!item.isAside) held.add(item.lane)
    }
    return wait
  }
  const flush = async (): Promise<void> => {
    if (isBusy) return
    const mine = ++loops
    isBusy = true
    cancel()
    while (current && loops === mine) {
      const item = next()
      if (typeof item === 'number') {
        if (item < Infinity) cancel = clock.after(item, () => { void flush() })
        break
      }
      await send(item, current)
    }
    if (loops === mine) isBusy = false
  }

  const outbox: Outbox = {
    add: (event, data) => new Promise((resolve, reject) => {
      const { dedupeId = randomId(clock.random), ...rest } = data as { dedupeId?: string, channel?: string, recipientId?: string }
      // Leaves space for the envelope of the frame.
      if (isTooLarge(JSON.stringify({ event, data, dedupeId, id: 2 ** 53 }), maxFrameSize)) return reject(tooLarge())
      if (items.size >= max) return reject(new ClientError('RT_QUEUE_FULL'))
      items.add({ event, data: { dedupeId, ...rest }, lane: String(rest.channel ?? rest.recipientId ?? event), resolve, reject, tries: 0, lost: 0, at: 0 })
      void flush()
    }),
    carry: (carrier) => {
      cancel()
      current = carrier
      // A send that was postponed on the last transport may work on this one.
      probeAt = 0
      void flush()
    },
    stop: (err) => {
      outbox.carry(null)
      // An ack that is still in flight is ignored.
      loops++
      isBusy = false
      for (const item of items) reject(item, err)
    }
  }
  return outbox
}
