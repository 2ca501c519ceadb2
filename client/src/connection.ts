import { createBackOff } from './backoff.js'
import { ClientError, toClientError } from './errors.js'
import { randomId } from './globals.js'
import { BLOCKED_AFTER, LATER, LINK_DEADLINE, SPACING, STALE } from './limits.js'
import { createLink, type Link } from './link.js'
import { createPause } from './pause.js'
import type { Scope } from './scope.js'
import { openSocket } from './socket.js'
import type { Core } from './state.js'
import { openStream } from './stream.js'
import { isFinal, isLater, isTokenRefused, leastDelay } from './verdicts.js'
import type { Authenticated, AuthData, Connected, ConnectionBody } from './wire.js'

/** Opens sockets one after the other, as close codes and back-off allow. */
export interface Connection {
  /** Connects and reconnects until `run` ends. */
  start (run: Scope): Promise<void>
  /** Attempts to connect at once. */
  retryNow (): void
  /** Registers the connection by REST with this token, which later requests use too. */
  register (scope: Scope, token?: string): Promise<void>
  /** Determines the user of the cookie, which may change with each request. */
  verify (scope: Scope): Promise<void>
  /** Ends the registered connection by REST, unless the close of its socket ends it. Never rejects. */
  unregister (): Promise<void>
}

export function createConnection (core: Core): Connection {
  const { token: source } = core
  const pause = createPause(core)
  const backOff = createBackOff(core.clock, core.reconnectDelay, core.maxReconnectDelay)
  /** The token with which the connection is, or is being, registered. */
  let registered: Promise<string | undefined> | undefined
  /** A request that ends one connection must not end the next one with the same id. */
  let ending: Promise<unknown> = Promise.resolve()
  /** The lifetimes of the last socket and the last stream. */
  let socket = core.run
  let stream = core.run
  /** Time of the last attempt, or when its socket opened. */
  let at = -Infinity
  let blocked = 0

  const post = (scope: Scope, token: string | undefined, path: string): Promise<unknown> =>
    core.ask(scope, token, path, { connection_id: core.connectionId } satisfies ConnectionBody)
  /** Authenticates with cookies. The server names their connection: registering another would leave a second one behind. */
  const check = (scope: Scope): Promise<unknown> =>
    post(scope, undefined, '/heartbeat').catch((err: ClientError) => { if (!/FOUND|FORBIDDEN/.test(err.code)) throw err })

  /** Opens and authenticates a link that lives in this scope. Rejects with the server's refusal, or `RT_SOCKET_BLOCKED` if no message arrives. */
  const open = async (scope: Scope, token: string | undefined, isStream?: boolean): Promise<Link> => {
    try {
      scope.check()
      return await new Promise((resolve, reject) => {
        const welcome = (answer: unknown): void => {
          core.current = token
          registered = Promise.resolve(token)
          core.opened(link, answer as Authenticated, isStream ? 'sse' : 'websocket')
          resolve(link)
        }
        const link = createLink(core, scope, welcome)
        scope.after(LINK_DEADLINE, () => { if (core.link !== link) link.drop() })
        void link.closed.then(reject)
        link.wire = (isStream ? openStream : openSocket)(core, link, () => {
          if (token && !isStream) link.request('auth', { token, connectionId: core.connectionId } satisfies AuthData, welcome).catch(reject)
        })
      })
    } catch (thrown) {
      scope.end()
      const err = toClientError(thrown, 'RT_SOCKET_BLOCKED')
      throw err.closeCode === 1006 ? new ClientError('RT_SOCKET_BLOCKED') : err
    }
  }
  /** The way around blocked sockets: a stream, or polling until there is one. */
  const detour = async (): Promise<void> => {
    const { user } = core
    if (!stream.ended) return
    stream = user.child()
    try {
      const link = await open(stream, core.current, true)
      const err = await link.closed
      // Not if a socket takes its place: the server closes the stream first.
      if (core.link !== link || (err.closeCode === 4001 && !socket.ended)) return
      if (isFinal(err)) return core.ended(err, true)
      core.lost(err)
      pause.end()
    } catch {
      if (!user.ended && !core.link && core.polled.ended) void core.poll(core.polled = user.child())
    }
  }

  return {
    start: async (run) => {
      let delay = 0
      let least = 0
      backOff.attempts = blocked = 0
      while (!run.ended) {
        const early = at + SPACING - core.clock.now()
        await pause.wait(run, Math.max(delay, early), Math.max(least, early))
        if (run.ended) return
        at = core.clock.now()
        const { maxFrameSize } = core
        let token: string | undefined
        let link: Link | undefined
        let err: ClientError
        try {
          await run.guard(ending)
          token = await core.freshToken(run)
          await (token ? core.register(run, token) : check(run))
          socket = run.child()
          link = await open(socket, token)
          at = core.clock.now()
          blocked = 0
          err = await link.closed
          backOff.closed(at)
        } catch (thrown) {
          err = toClientError(thrown)
        }
        if (run.ended) return

        // The server may have sent the reason before it closed the socket.
        const isRefused = isTokenRefused(err) || isTokenRefused(Object(err.cause) as ClientError)
        if (isRefused && token) core.refused = link ? core.current : token
        // After a frame that was too large for the server, the next are smaller. An expired cookie session may have been renewed: the next attempt will show it.
        const isOver = (isFinal(err) && maxFrameSize === core.maxFrameSize) || (typeof source === 'string' ? isRefused : !source && isTokenRefused(err))
        if (!link) {
          at = core.clock.now()
          if (!isOver) core.failed(err)
        }
        if (run.ended) return
        // Another transport works, so these attempts do not count.
        const isBlocked = err.code === 'RT_SOCKET_BLOCKED' && ++blocked >= BLOCKED_AFTER && core.polling
        if (isBlocked) void detour()
        if (isOver || (!isBlocked && backOff.attempts >= core.maxReconnectAttempts)) {
          registered = undefined
          return core.ended(err, isOver)
        }
        if (link) core.lost(err)
        if (run.ended) return
        least = Math.max(leastDelay(err), isLater(err) ? LATER : 0)
        delay = backOff.next(least)
        core.emit('reconnecting', { attempt: backOff.attempts, delay })
      }
    },
    retryNow: () => { pause.end() },
    register: async (scope, token) => {
      scope.check()
      // It continues after the scope ends, so that a registered connection can be ended.
      const connecting = post(core.life, token, '/connect').catch(async (err: ClientError) => {
        if (err.code !== 'RT_CONNECTION_TAKEN' || !core.mayRename || scope.ended) throw err
        core.connectionId = randomId(core.clock.random)
        return post(core.life, token, '/connect')
      })
      registered = connecting.then(() => token)
      registered.catch(() => {})
      const { data } = await scope.guard(connecting) as Connected
      scope.check()
      core.current = token
      core.identified(data.user_id, data.club_id)
    },
    verify: async (scope) => {
      if (source) return
      const asked = core.clock.now()
      await core.register(scope)
      // A slow response may be about the previous cookie.
      if (core.clock.now() - asked > STALE) await core.register(scope)
    },
    unregister: async () => {
      // A closed socket ends its connection; one that was only registered must be ended by a request.
      if (registered && !core.link) ending = registered.then((token) => post(core.life, token, '/disconnect')).catch(() => {})
      registered = undefined
      await ending
    }
  }
}
