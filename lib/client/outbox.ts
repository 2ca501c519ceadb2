import { createPause, type ClientClock } from './clock.js'
import { ClientError, isPassing } from './errors.js'
import type { Carrier } from './link.js'

/** The server knows a `dedupeId` for 5 minutes; later the same one would be stored again. */
const KNOWN_FOR = 290_000

interface Item {
  event: string
  data: object
  resolve: (ack: unknown) => void
  reject: (err: ClientError) => void
  /** When it was first on its way. */
  sentAt?: number
}

/**
 * Durable sends, in order, one under way at a time: each keeps its `dedupeId`, so that one whose answer was lost is sent
 * again and stored once, and none overtakes another that the server could not take yet.
 */
export interface Outbox {
  /** The ack. Rejects with the server's refusal, `RT_QUEUE_FULL`, `RT_OUTCOME_UNKNOWN` or what `stop` was given. */
  add (event: string, data: object): Promise<unknown>
  /** From now on by this way; null: there is none. */
  carry (carrier: Carrier | null): void
  /** All that waits is given up. */
  stop (err: ClientError): void
}

export function createOutbox (clock: ClientClock, max: number): Outbox {
  const items: Item[] = []
  const pause = createPause(clock)
  let current: Carrier | null = null
  let busy = false

  const send = async (item: Item, carrier: Carrier): Promise<void> => {
    item.sentAt ??= clock.now()
    try {
      if (clock.now() - item.sentAt > KNOWN_FOR) throw new ClientError('RT_OUTCOME_UNKNOWN')
      item.resolve(await carrier(item.event, item.data))
    } catch (thrown) {
      const err = thrown as ClientError
      if (err.code === 'RT_SOCKET_CLOSED') {
        current = null
        return
      }
      if (isPassing(err)) return await pause.wait(((err.retryAfter ?? 1) + clock.random()) * 1000)
      item.reject(err)
    }
    if (items[0] === item) items.shift()
  }
  const flush = async (): Promise<void> => {
    if (busy) return
    busy = true
    for (let item = items[0]; item && current; item = items[0]) await send(item, current)
    busy = false
  }

  const outbox: Outbox = {
    add: (event, data) => new Promise((resolve, reject) => {
      if (items.length >= max) {
        reject(new ClientError('RT_QUEUE_FULL'))
        return
      }
      items.push({ event, data: { dedupeId: randomId(), ...data }, resolve, reject })
      void flush()
    }),
    carry: (carrier) => {
      current = carrier
      pause.end()
      void flush()
    },
    stop: (err) => {
      outbox.carry(null)
      for (const { reject } of items.splice(0)) reject(err)
    }
  }
  return outbox
}

/** `crypto.randomUUID` is there only on pages that came by https. */
export const randomId = (): string => crypto.getRandomValues(new Uint32Array(4)).join('-')
