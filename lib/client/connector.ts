import { attempt, type Session } from './attempt.js'
import { createBackOff } from './backoff.js'
import { createPause } from './clock.js'
import type { ClientError } from './errors.js'
import { closedError, type Closed } from './link.js'
import type { Settings } from './options.js'
import type { Rest } from './rest.js'

/** Milliseconds from one attempt to the next, whatever the server, the network or the page does: a second, and what networks sway. */
const SPACING = 1250
/** Sockets that never opened, one after the other, while REST answers. */
const BLOCKED_AFTER = 2
/** Codes of errors and of closes. Another try would be told the same: by request, replaced, too many bad frames, banned, too big a frame. */
const FINAL = /400[01]|440[03]|1009|URL|MISMATCH|FORBIDDEN|INVALID|TAKEN/
/** The token is no good. */
const REFUSED = /4401|UNAUTH|EXPIRED/
/** Overloaded, or flooded. */
const LATER = /1013|4429|LIMITED/

interface Hooks {
  opened (session: Session): void
  closed (closed: Closed, willReconnect: boolean): void
  /** REST answers and sockets do not open. True: there is another way, and such attempts do not count. */
  blocked (): boolean
  failed (err: ClientError): void
  /** No further attempts: `isFinal`, for this reason, or as many were made as allowed. */
  ended (err: ClientError, isFinal: boolean): void
}

/** Opens a socket and opens it again, as often as its close codes and the back-off allow. */
export interface Connector {
  session: Session | null
  /** 0: stopped. */
  run: number
  start (): void
  /** Nothing is heard of it any more. */
  stop (): void
  /** Now is a good moment for an attempt. */
  wake (): void
}

export function createConnector (rest: Rest, settings: Settings, emit: (event: string, data: unknown) => void, hooks: Hooks): Connector {
  const { clock } = settings
  const pause = createPause(clock)
  const backOff = createBackOff(clock, settings.reconnectDelay, settings.maxReconnectDelay)
  let runs = 0
  let attemptedAt = -Infinity
  let blocked = 0

  const isFinal = (err: ClientError): boolean => {
    const isRefused = REFUSED.test(codesOf(err))
    if (isRefused) rest.refuse()
    return FINAL.test(codesOf(err)) || (isRefused && typeof settings.token !== 'function')
  }

  const loop = async (mine: number): Promise<void> => {
    const isStill = (): boolean => connector.run === mine
    while (isStill()) {
      const early = attemptedAt + SPACING - clock.now()
      if (early > 0) {
        await pause.wait(early)
        continue
      }
      const err = await live(isStill)
      if (!err || !isStill()) return
      const isBlocked = err.code === 'RT_SOCKET_BLOCKED'
      blocked = isBlocked ? blocked + 1 : 0
      const hasOtherWay = isBlocked && blocked >= BLOCKED_AFTER && hooks.blocked()
      if (isFinal(err) || (!hasOtherWay && backOff.attempts >= settings.maxReconnectAttempts)) {
        connector.run = 0
        hooks.ended(err, isFinal(err))
        return
      }
      const delay = backOff.next(LATER.test(codesOf(err)), err.retryAfter)
      emit('reconnecting', { attempt: backOff.attempts, delay })
      await pause.wait(delay)
    }
  }

  /** One attempt, and the life of its socket: why it ended. Null: the client was stopped meanwhile. */
  const live = async (isStill: () => boolean): Promise<ClientError | null> => {
    attemptedAt = clock.now()
    try {
      const session = await attempt(rest, settings)
      if (!isStill()) {
        session.link.close()
        return null
      }
      const openedAt = clock.now()
      connector.session = session
      hooks.opened(session)
      const closed = await session.link.closed
      const err = closedError(closed)
      connector.session = null
      backOff.closed(openedAt)
      hooks.closed(closed, !isFinal(err))
      return err
    } catch (thrown) {
      if (!isStill()) return null
      const err = thrown as ClientError
      attemptedAt = clock.now()
      if (!isFinal(err)) hooks.failed(err)
      return err
    }
  }

  const connector: Connector = {
    session: null,
    run: 0,
    start: () => {
      backOff.attempts = blocked = 0
      void loop(connector.run = ++runs)
    },
    stop: () => {
      connector.run = 0
      pause.end()
      connector.session?.link.close()
      connector.session = null
    },
    wake: pause.end
  }
  return connector
}

const codesOf = ({ code, closeCode }: ClientError): string => `${code} ${closeCode}`
