import { createBackOff } from './backoff.js'
import { ClientError, toClientError } from './errors.js'
import { globals, randomId } from './globals.js'
import { createLink, type Link } from './link.js'
import type { Settings } from './options.js'
import { createPause } from './pause.js'
import type { Rest } from './rest.js'
import type { Scope } from './scope.js'
import type { Tokens } from './tokens.js'
import { isFinal, isLater, isTokenRefused, leastDelay } from './verdicts.js'
import type { Authenticated, AuthData, Connected, ConnectionBody, Frame, Id } from './wire.js'

/** Milliseconds from one attempt to the next, whatever the server, the network or the page does: a second, and what networks sway. */
const SPACING = 1250
/** Milliseconds that a socket may take to open and to authenticate: the server's own deadline. */
const DEADLINE = 10_000
/** Milliseconds that a client stays away at least which is told to come later. */
const LATER = 5000
/** Sockets by which nothing came, one after the other, while REST answers. */
const BLOCKED_AFTER = 2

export interface Hooks {
  /** The name of a connection that is taken was made here, or used for another user. */
  mayRename (): boolean
  /** It is known whose the credentials are, before anything that waited is sent with them. */
  identified (userId: Id, clubId: Id | undefined): void
  opened (link: Link, answer: Authenticated): void
  /** A frame that nobody asked for. */
  frame (frame: Frame): void
  /** The socket is closed, and another is opened. */
  closed (code: number, reason: string | undefined, willReconnect: true): void
  /** REST answers and sockets do not open. True: there is another way, and such attempts do not count. */
  blocked (): boolean
  /** An attempt failed, and another follows. */
  failed (err: ClientError): void
  reconnecting (attempt: number, delay: number): void
  /** No further attempts: for this reason, or as many were made as allowed. Begins again where it is told to. */
  ended (err: ClientError, isFinal: boolean, reason?: string): void
}

/** Opens a socket and opens it again, as often as its close codes and the back-off allow. */
export interface Connection {
  /** Goes on until `run` ends. */
  start (run: Scope): Promise<void>
  /** Now is a good moment for an attempt. */
  wake (): void
  /** Registers the connection by REST with this token, which is the one for requests from then on. */
  register (scope: Scope, token?: string): Promise<void>
  /** Ends by name what was registered, unless the close of its socket ends it. Settles in any case. */
  end (isEnded: boolean): Promise<void>
}

export function createConnection (life: Scope, rest: Rest, tokens: Tokens, settings: Settings, hooks: Hooks): Connection {
  const { clock, token: source } = settings
  const pause = createPause(clock)
  const backOff = createBackOff(clock, settings.reconnectDelay, settings.maxReconnectDelay)
  /** Registering, or registered: with which token. */
  let registered: Promise<string | undefined> | undefined
  /** What ends one connection must not end the next of the same name. */
  let ending: Promise<unknown> = Promise.resolve()
  let attemptedAt = -Infinity
  let openedAt = 0
  let blocked = 0

  const post = (scope: Scope, token: string | undefined, path: string): Promise<unknown> =>
    rest.send(scope, token, path, { connection_id: settings.connectionId } satisfies ConnectionBody)

  const register = async (scope: Scope, token?: string): Promise<void> => {
    scope.check()
    // It goes on when the scope ends, or nobody would know whether there is something to end.
    const connecting = post(life, token, '/connect').catch(async (err: ClientError) => {
      if (err.code !== 'RT_CONNECTION_TAKEN' || !hooks.mayRename() || scope.ended) throw err
      settings.connectionId = randomId(clock.random)
      return post(life, token, '/connect')
    })
    registered = connecting.then(() => token)
    registered.catch(() => {})
    const { data } = await scope.guard(connecting) as Connected
    scope.check()
    tokens.current = token
    hooks.identified(data.user_id, data.club_id)
  }
  /** Whether cookies say who it is. The server names their connection: registering another would leave a second one behind. */
  const check = (scope: Scope): Promise<unknown> =>
    post(scope, undefined, '/heartbeat').catch((err: ClientError) => { if (!/FOUND|FORBIDDEN/.test(err.code)) throw err })

  /** A socket that is authenticated. Rejects with the server's refusal, or `RT_SOCKET_BLOCKED` where nothing comes by it. */
  const open = async (run: Scope, token: string | undefined): Promise<Link> => {
    await (token ? register(run, token) : check(run))
    const scope = run.child()
    try {
      scope.check()
      const Socket = settings.WebSocket ?? globals.WebSocket
      attemptedAt = clock.now()
      if (!Socket) throw new Error('There is none: pass the option WebSocket')
      return await new Promise((resolve, reject) => {
        const link = createLink(new Socket(rest.url('/ws').replace('http', 'ws')), clock, scope, settings, () => {
          const welcome = (answer: unknown): void => {
            stop()
            openedAt = clock.now()
            blocked = 0
            tokens.current = token
            registered = Promise.resolve(token)
            hooks.opened(link, answer as Authenticated)
            resolve(link)
          }
          (token ? link.request('auth', { token, connectionId: settings.connectionId } satisfies AuthData, welcome) : link.expect('authenticated', welcome)).catch(reject)
        }, hooks.frame)
        const stop = scope.after(DEADLINE, link.drop)
        void link.closed.then(reject)
      })
    } catch (thrown) {
      scope.end()
      const err = toClientError(thrown, 'RT_SOCKET_BLOCKED')
      throw err.closeCode === 1006 ? new ClientError('RT_SOCKET_BLOCKED') : err
    }
  }

  return {
    start: async (run) => {
      backOff.attempts = blocked = 0
      // Nothing is sent, and no token asked for, in the turn of the constructor.
      await Promise.resolve()
      while (!run.ended) {
        const early = attemptedAt + SPACING - clock.now()
        if (early > 0) {
          await pause.wait(run, early, early)
          continue
        }
        attemptedAt = clock.now()
        const { maxFrameSize } = settings
        let token: string | undefined
        let link: Link | undefined
        let err: ClientError
        try {
          await run.guard(ending)
          token = await tokens.fresh(run)
          link = await open(run, token)
          err = await link.closed
        } catch (thrown) {
          err = toClientError(thrown)
        }
        if (run.ended) return

        // The server may have said why before it closed the socket.
        const isRefused = isTokenRefused(err) || isTokenRefused(Object(err.cause) as ClientError)
        if (isRefused && token) tokens.refused = link ? tokens.current : token
        // After a frame that was too large for the server, the next are smaller. A session of cookies that ended may have been prolonged: the next attempt asks, and is refused by itself.
        const isOver = (isFinal(err) && maxFrameSize === settings.maxFrameSize) || (typeof source === 'string' ? isRefused : !source && isTokenRefused(err))
        if (link) backOff.closed(openedAt)
        else {
          attemptedAt = clock.now()
          if (!isOver) hooks.failed(err)
        }
        if (run.ended) return
        const hasOtherWay = err.code === 'RT_SOCKET_BLOCKED' && ++blocked >= BLOCKED_AFTER && hooks.blocked()
        if (isOver || (!hasOtherWay && backOff.attempts >= settings.maxReconnectAttempts)) {
          registered = undefined
          return hooks.ended(err, isOver, link?.reason)
        }
        if (link) hooks.closed(err.closeCode!, link.reason, true)
        if (run.ended) return
        const least = Math.max(leastDelay(err), isLater(err) ? LATER : 0)
        const delay = backOff.next(least)
        hooks.reconnecting(backOff.attempts, delay)
        await pause.wait(run, delay, least)
      }
    },
    wake: () => { pause.end() },
    register,
    end: async (isEnded) => {
      if (registered && !isEnded) ending = registered.then((token) => post(life, token, '/disconnect')).catch(() => {})
      registered = undefined
      await ending
    }
  }
}
