import { ClientError } from './errors.js'
import { beat, onWake } from './heartbeat.js'
import { HEARTBEAT, SHORTEST } from './limits.js'
import { errorOf, type Link } from './link.js'
import { forget, identify, learnEpoch, type Core, type Durable } from './state.js'
import type { Transport } from './types.js'
import { createTyping, type Typing } from './typing.js'
import type { Authenticated, Frame, Id } from './wire.js'

/** Why a connection ended: 1006 without a close code. */
type ClosedBy = Pick<ClientError, 'closeCode' | 'reason'>

/** The events of a client between `connect()` and `disconnect()`, and their effects on state and listeners. */
export interface Session {
  readonly typing: Typing
  connect (): void
  wake (): void
  /** Ends everything, and rejects waiting calls. */
  stop (err: ClientError, by: ClosedBy): void
  /** The user of the credentials is known; called before queued sends are sent with them. */
  identified (userId: Id, clubId: Id | undefined): void
  opened (link: Link, answer: Authenticated, transport: Transport): void
  /** A frame that is not a reply. */
  received (frame: Frame): void
  /** A transport to the server is available. */
  carry (transport: Transport): void
  /** The connection is lost, and another attempt follows. */
  lost (err: ClosedBy): void
  /** An error occurred, and the client continues. */
  failed (err: ClientError): void
  /** No further attempts, for this reason, or because the allowed number was made. */
  ended (err: ClientError, isFinal: boolean): void
}

export function createSession (core: Core): Session {
  /** Problems emitted since the last socket: each is emitted once. */
  const reported = new Set<string>()
  let ping = (): void => {}

  /** Rejects everything that waits. */
  const giveUp = (err: ClientError): void => {
    core.suspend(err)
    core.rejectSends(err)
  }
  const closed = ({ closeCode = 1006, reason = '' }: ClosedBy, willReconnect: boolean): void => {
    core.polled.end()
    core.typing.clear()
    core.suspend()
    core.sendBy(null)
    if (!core.transport) return
    core.transport = null
    core.emit('disconnected', { code: closeCode, reason, willReconnect })
  }
  /** Renews the credentials of the open socket. If there is no new token, or the server cannot check it now, the next socket gets another. */
  const prolong = async (link: Link): Promise<void> => {
    try {
      const token = await core.freshToken(link)
      await link.request('auth', { token })
      core.current = token
    } catch (err) {
      // A token of another user closes the socket; the next socket belongs to that user.
      if (!link.ended && (err as ClientError).code !== 'RT_IDENTITY_MISMATCH') core.failed(err as ClientError)
    }
  }

  return {
    /** Everything that belongs to a user goes when another one comes. */
    identified: (userId, clubId = core.identity?.clubId) => {
      const previous = core.identity
      const isOther = previous && (userId !== previous.userId || (previous.clubId ?? clubId) !== clubId)
      core.identity = { userId, clubId }
      core.mayRename = true
      if (isOther) {
        // Calls made between `connect()` and the reply belong to the user of the reply.
        if (core.me !== undefined) {
          // A request may learn this before the socket, which still belongs to the other user.
          core.link?.end()
          core.user.end()
          core.user = core.run.child()
          closed({ closeCode: 1000 }, true)
          giveUp(new ClientError('RT_IDENTITY_CHANGED'))
        }
        core.forgetWatches()
        forget(core)
      }
      identify(core, userId)
      if (isOther) core.emit('identity-changed', { ...core.identity, previous })
    },
    opened: (link, { userId, clubId, channels = [], heartbeatInterval, connectionId, epoch }, way) => {
      // A socket takes the place of a stream.
      core.link?.end()
      core.connectionId = connectionId
      core.polled.end()
      core.identified(userId, clubId)
      if (link.ended) return
      reported.clear()
      learnEpoch(core, epoch)
      link.isModern = epoch !== undefined
      // Repeated sends come first, so that their acks arrive before the replay that contains their events.
      core.sendBy(link.request)
      // With the channels plugin the server has subscribed `broadcast`; `presence` has nothing to resume.
      core.resume(link, channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : [])
      core.resumeWatches(link).catch((err: ClientError) => { if (!link.ended) core.failed(err) })
      ping = beat(core, link, Math.max(core.heartbeatInterval ?? (heartbeatInterval || HEARTBEAT), SHORTEST), () => {
        // The counts of the tenant, only if there is a listener.
        if (core.has('heartbeat')) core.call(link, '/heartbeat', { connection_id: connectionId }).then((answer) => { core.emit('heartbeat', (answer as { data: never }).data) }, () => {})
      })
      core.carry(way)
    },
    received: ({ event, data }) => {
      // The `messageId` of these belongs to another event.
      if (Number(data.messageId) > 0 && !/:(delivered|activity)$/.test(event)) return core.take({ event, data } as Durable)
      // The server announces the close and the delay; `disconnected` and `reconnecting` report both.
      if (event === 'error') return data.code === 'RT_UNAVAILABLE' ? undefined : core.failed(errorOf(data))
      if (event === 'unsubscribed') core.left(data.channel as string)
      core.emit(event as never, data as never)
      if (event === 'token:expiring' && typeof core.token === 'function' && core.link) void prolong(core.link)
    },
    carry: (way) => {
      const before = core.transport
      core.transport = way
      if (before !== way) core.emit('transport', { transport: way })
      if (!before && core.transport === way) core.emit('connected', { connectionId: core.connectionId, userId: core.me!, transport: way })
    },
    lost: (err) => { closed(err, true) },
    failed: (err) => { if (reported.size < reported.add(err.code).size) core.emit('error', err) },
    ended: (err, isLast) => {
      core.stop(isLast ? err : new ClientError('RT_CLIENT_STOPPED'), err)
      if (!isLast) core.emit('max-reconnect-attempts-reached', { attempts: core.maxReconnectAttempts })
      // A requested close is not an error, and the error may have been emitted before the close.
      else if (err.closeCode !== 4000 && !(err.closeCode === 4401 && reported.size)) core.failed(err)
    },
    stop: (err, by) => {
      core.run.end()
      core.current = undefined
      // Before listeners are called, because they may connect again and make new calls.
      giveUp(err)
      closed(by, false)
    },
    typing: createTyping(core.clock, core.typingIdle, (sign) => {
      // A late typing update is worthless: beyond the rate it is dropped.
      core.request('user:typing', sign).catch((err: ClientError) => { if (err.code === 'RT_FORBIDDEN') core.failed(err) })
    }),
    connect: () => {
      if (!core.run.ended) return
      reported.clear()
      core.me = undefined
      core.run = core.life.child()
      core.user = core.run.child()
      core.run.onEnd(onWake(core.wake, () => { core.link?.drop() }))
      void core.start(core.run)
    },
    wake: () => {
      ping()
      core.pollNow()
      core.retryNow()
    }
  }
}
