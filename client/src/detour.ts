import type { ClientError } from './errors.js'
import type { Scope } from './scope.js'
import type { Core } from './state.js'
import { isFinal } from './verdicts.js'

/** The way around blocked sockets: a stream, or polling until there is one. */
export interface Detour {
  /** Opens a stream, unless there is one. */
  begin (): Promise<void>
}

export function createDetour (core: Core): Detour {
  const { connection, rest, tokens } = core
  /** The lifetime of the stream. */
  let way = core.run

  /** Switches to REST, as soon as the user is known. */
  const poll = async (scope: Scope): Promise<void> => {
    const carrier = rest.carrier(scope)
    try {
      await connection.verify(scope)
      scope.check()
    } catch (err) {
      if (!scope.ended) core.failed(err as ClientError)
      return scope.end()
    }
    core.outbox.carry((...frame) => connection.verify(scope).then(() => carrier(...frame)))
    core.carry('polling')
    await core.poller.start(scope)
  }
  return {
    begin: async () => {
      if (!way.ended) return
      const { user } = core
      way = user.child()
      try {
        const link = await connection.open(way, tokens.current, true)
        const err = await link.closed
        // Not if a socket takes its place: the server closes the stream first.
        if (core.link !== link || (err.closeCode === 4001 && connection.opening)) return
        if (isFinal(err)) return core.ended(err, true)
        core.lost(err)
        connection.wake()
      } catch {
        if (!user.ended && !core.link && core.polled.ended) void poll(core.polled = user.child())
      }
    }
  }
}
