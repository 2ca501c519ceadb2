import type { ClientClock } from './clock.js'
import type { Delivery } from './delivery.js'
import { toClientError, type ClientError } from './errors.js'
import { createPause } from './pause.js'
import type { Rest } from './rest.js'
import type { Scope } from './scope.js'
import { learnEpoch, LIVE, type Durable, type Entry, type State } from './state.js'
import type { Subscriptions } from './subscriptions.js'
import { isRefusal, leastDelay } from './verdicts.js'
import type { Page } from './wire.js'

/** Reads what sockets would tell, with the same cursors: durable events only. */
export interface Poller {
  /** Until this scope ends. */
  start (scope: Scope): Promise<void>
  /** Reads now: something was just subscribed, or the page is seen again. */
  wake (): void
}

const PAGE = 500
/** Milliseconds for each channel of a round: 600 requests a minute are what a user may have. */
const PER_CHANNEL = 200

/** `verify` makes sure that what was read is the user's; `failed` is told of what goes wrong, also where REST does not answer any more. */
export function createPoller (
  rest: Rest, state: State, subscriptions: Subscriptions, delivery: Delivery, clock: ClientClock, interval: number,
  emit: (event: string, data: unknown) => void, verify: (scope: Scope) => Promise<void>, failed: (err: ClientError) => void
): Poller {
  const { entries } = state
  const pause = createPause(clock)

  /** Everything that is new on one channel. What was never subscribed begins now: what came before is not told. */
  const read = async (scope: Scope, entry: Entry): Promise<void> => {
    const { channel } = entry
    let position = entry.cursor ?? 0
    let isNew = entry.cursor === undefined
    for (let more = true; more;) {
      const epoch = state.epoch ? `&epoch=${state.epoch}` : ''
      const page = await rest.call(scope, `/events?channel=${encodeURIComponent(channel)}&since=${position}&limit=${PAGE}${isNew ? '' : epoch}`) as Page
      if (page.data.length) await verify(scope)
      const isStill = (): boolean => !scope.ended && entries.get(channel) === entry
      if (!isStill()) return
      // A cursor of another log says nothing: it begins now, as where there is none.
      if (learnEpoch(state, page.epoch)) isNew = true
      if (!isNew) {
        if (!page.recovered) emit('gap', { channel, position: page.position })
        delivery.deliver(page.data as Durable[])
        if (!isStill()) return
      }
      ;({ position, more } = page)
      if (!isNew || !more) entry.cursor = position
    }
    entry.stage = LIVE
    if (entry.waiters.length || entry.owesGap) subscriptions.subscribed(entry, { channel, position })
  }
  /** Milliseconds that the next round has to wait at least. */
  const round = async (scope: Scope): Promise<number> => {
    for (const entry of [...entries.values()]) {
      // Presence is not stored.
      if (entries.get(entry.channel) !== entry || (entry.channel === 'presence' && !entry.waiters.length)) continue
      try {
        await read(scope, entry)
      } catch (thrown) {
        const err = toClientError(thrown)
        if (scope.ended) break
        if (isRefusal(err)) subscriptions.refuse(entry, err)
        else {
          failed(err)
          // Where it is only this channel, the others are answered.
          if (!/INTERNAL|RT_UNAV/.test(err.code)) return leastDelay(err)
        }
      }
    }
    return 0
  }
  return {
    start: async (scope) => {
      while (!scope.ended) {
        const least = await round(scope)
        await pause.wait(scope, Math.max(least, interval, PER_CHANNEL * entries.size) * (1 + clock.random() / 4), least)
      }
    },
    wake: pause.end
  }
}
