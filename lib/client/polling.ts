import { createPause, type ClientClock } from './clock.js'
import type { ClientError } from './errors.js'
import type { Rest } from './rest.js'
import type { Durable, Entry, Subscriptions } from './subscriptions.js'

interface Page { data: Durable[], epoch: string, position: number, recovered: boolean, more: boolean }

/** Reads what sockets would tell, with the same cursors: durable events only. */
export interface Poller {
  isOn: boolean
  start (): void
  stop (): void
  /** Reads now: something was just subscribed, or the page is seen again. */
  wake (): void
}

const PAGE = 1000
/** Milliseconds for each channel of a round: 600 requests a minute are what a user may have. */
const PER_CHANNEL = 200

export function createPoller (
  rest: Rest, subscriptions: Subscriptions, clock: ClientClock, interval: number,
  emit: (event: string, data: unknown) => void, failed: (err: ClientError) => void
): Poller {
  const { entries } = subscriptions
  const pause = createPause(clock)

  /** Everything that is new on one channel. What was never subscribed begins now: what came before is not told. */
  const read = async (entry: Entry): Promise<void> => {
    const { channel } = entry
    const isNew = entry.cursor === undefined
    for (let position = entry.cursor ?? 0, more = true; more;) {
      const page = await rest.call(`/events?channel=${channel}&since=${position}&limit=${PAGE}`) as Page
      if (!poller.isOn || entries.get(channel) !== entry) return
      if (!page.recovered && !isNew) emit('gap', { channel, position: page.position })
      if (!isNew) subscriptions.deliver(page.data)
      ;({ position, more } = page)
      if (!isNew || !more) entry.cursor = position
      if (!more && entry.waiters.length > 0) subscriptions.subscribed(entry, { channel, epoch: page.epoch, position })
    }
  }
  let isBusy = false
  const run = async (): Promise<void> => {
    if (isBusy) return
    isBusy = true
    while (poller.isOn) {
      let least = interval
      for (const entry of entries.values()) {
        try {
          // Presence is not stored.
          if (entry.channel !== 'presence') await read(entry)
        } catch (thrown) {
          const err = thrown as ClientError
          if (!poller.isOn) break
          if (/FORBIDDEN|INVALID/.test(err.code)) subscriptions.refuse(entry, err)
          else {
            failed(err)
            least = (err.retryAfter ?? 0) * 1000
            break
          }
        }
      }
      await pause.wait(Math.max(least, interval, PER_CHANNEL * entries.size) * (1 + clock.random() / 4))
    }
    isBusy = false
  }
  const poller: Poller = {
    isOn: false,
    start: () => {
      poller.isOn = true
      void run()
    },
    stop: () => {
      poller.isOn = false
      pause.end()
    },
    wake: pause.end
  }
  return poller
}
