import { toClientError, type ClientError } from './errors.js'
import { PAGE, PER_CHANNEL } from './limits.js'
import { createPause } from './pause.js'
import type { Scope } from './scope.js'
import { learnEpoch, LIVE, type Core, type Durable, type Entry } from './state.js'
import { isRefusal, leastDelay } from './verdicts.js'
import type { Page } from './wire.js'

/** Polls for durable events, with the same cursors as sockets. */
export interface Poller {
  /** Switches to REST, as soon as the user is known, until this scope ends. */
  poll (scope: Scope): Promise<void>
  /** Polls now: a channel was just subscribed, or the page became visible. */
  pollNow (): void
}

export function createPoller (core: Core): Poller {
  const pause = createPause(core)

  /** Reads the new events of a channel. A channel that was never subscribed begins at its end: earlier events are not emitted. */
  const read = async (scope: Scope, entry: Entry): Promise<void> => {
    const { channel } = entry
    let position = entry.cursor ?? 0
    let isNew = entry.cursor === undefined
    for (let more = true; more;) {
      const page = await core.get(scope, '/events', { channel, since: position, limit: PAGE, epoch: isNew ? undefined : core.epoch }) as Page
      // They must belong to the user.
      if (page.data.length) await core.verify(scope)
      const isStill = (): boolean => !scope.ended && core.wanted.get(channel) === entry
      if (!isStill()) return
      // A cursor of another log is not valid: the channel begins at its end.
      if (learnEpoch(core, page.epoch)) isNew = true
      if (!isNew) {
        if (!page.recovered) core.emit('gap', { channel, position: page.position })
        core.deliver(page.data as Durable[])
        if (!isStill()) return
      }
      ;({ position, more } = page)
      if (!isNew || !more) entry.cursor = position
    }
    entry.stage = LIVE
    if (entry.waiters.length || entry.owesGap) core.subscribed(entry, { channel, position })
  }
  /** The minimum delay of the next round in milliseconds. */
  const round = async (scope: Scope): Promise<number> => {
    for (const entry of [...core.wanted.values()]) {
      // Presence is not stored.
      if (core.wanted.get(entry.channel) !== entry || (entry.channel === 'presence' && !entry.waiters.length)) continue
      try {
        await read(scope, entry)
      } catch (thrown) {
        const err = toClientError(thrown)
        if (scope.ended) break
        if (isRefusal(err)) core.refuse(entry, err)
        else {
          core.failed(err)
          if (err.code === 'RT_SERVER_UNREACHABLE') core.lost(err)
          // If only this channel fails, the others are still read.
          if (!/INTERNAL|RT_UNAV/.test(err.code)) return leastDelay(err)
        }
      }
    }
    return 0
  }
  return {
    poll: async (scope) => {
      const carrier = core.byRest(scope)
      try {
        await core.verify(scope)
        scope.check()
      } catch (err) {
        if (!scope.ended) core.failed(err as ClientError)
        return scope.end()
      }
      core.sendBy((...frame) => core.verify(scope).then(() => carrier(...frame)))
      core.carry('polling')
      while (!scope.ended) {
        const least = await round(scope)
        await pause.wait(scope, Math.max(least, core.pollInterval, PER_CHANNEL * (core.wanted.size || 1)) * (1 + core.clock.random() / 4), least)
      }
    },
    pollNow: () => { pause.end() }
  }
}
