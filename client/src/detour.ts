import type { Connection } from './connection.js'
import type { ClientError } from './errors.js'
import type { Outbox } from './outbox.js'
import type { Poller } from './polling.js'
import type { Rest } from './rest.js'
import type { Scope } from './scope.js'
import type { State } from './state.js'
import type { Transport } from './types.js'
import { isFinal } from './verdicts.js'

/** The way around blocked sockets: a stream, or polling until there is one. */
export interface Detour {
  /** Opens a stream, unless there is one. */
  begin (): void
}

/** `verify` finds out whose the credentials are. The other functions are those of the connection's hooks. */
export function createDetour (
  state: State, rest: Rest, outbox: Outbox, poller: Poller, connection: () => Connection, verify: (scope: Scope) => Promise<void>,
  carry: (way: Transport) => void, closed: (code: number, reason: string | undefined, willReconnect: true) => void,
  ended: (err: ClientError, isFinal: true, reason?: string) => void, failed: (err: ClientError) => void
): Detour {
  /** There is a stream, or one is being opened. */
  let isOn = false

  /** Switches to REST, as soon as the user is known. */
  const poll = async (scope: Scope): Promise<void> => {
    const carrier = rest.carrier(scope)
    try {
      await verify(scope)
      scope.check()
    } catch (err) {
      if (!scope.ended) failed(err as ClientError)
      return scope.end()
    }
    outbox.carry((...frame) => verify(scope).then(() => carrier(...frame)))
    carry('polling')
    await poller.start(scope)
  }
  const run = async (scope: Scope): Promise<void> => {
    try {
      const link = await connection().stream(scope)
      const err = await link.closed
      // Not if a socket takes its place: the server closes the stream first.
      if (state.link !== link || (err.closeCode === 4001 && connection().opening)) return
      if (isFinal(err)) return ended(err, true, link.reason)
      closed(err.closeCode!, link.reason, true)
      connection().wake()
    } catch {
      if (!scope.ended && !state.link && (!state.polled || state.polled.ended)) void poll(state.polled = state.user!.child())
    }
  }
  return {
    begin: () => {
      if (isOn) return
      isOn = true
      const scope = state.user!.child()
      void run(scope).then(() => {
        isOn = false
        scope.end()
      })
    }
  }
}
