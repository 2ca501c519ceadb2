import { randomUUID } from 'node:crypto'
import type { TObject } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import { toIso } from '../../lib/clock.js'
import { RealtimeError } from '../../lib/errors.js'
import { invalidData, type FrameResult } from '../../lib/frame-router.js'
import { withIds } from '../../lib/id-schemas.js'
import type { Identity } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { Connection } from './connection.js'
import type { Connections } from './connections.js'
import { AuthData, clientEvents, serverEvents, type Authenticated, type Pong } from './schemas.js'

export type FrameHandler = (connection: Connection, data: unknown) => MaybePromise<FrameResult<unknown>>

/** Authentication by an `auth` frame failed with `cause`. It may end the socket: see `FramePipeline`. */
export class AuthenticationFailure extends Error {
  /** The connection was open already, and presented newer credentials. */
  readonly isRenewal: boolean

  constructor (cause: unknown, isRenewal: boolean) {
    super('authentication failed', { cause })
    this.isRenewal = isRenewal
  }
}

/** The frames that are also handled before authentication. All others require it, and are registered with the frame router. */
export function frames (internals: Internals, connections: Connections): ReadonlyMap<string, FrameHandler> {
  const { access, clock, ids } = internals
  internals.frames.describe({ client: clientEvents, server: serverEvents })
  const authData = TypeCompiler.Compile<TObject>(withIds(AuthData, ids.kind))

  const identify = async ({ token, userId, clubId }: AuthData, connection: Connection): Promise<Identity> => {
    const identity = await access.identify(token, connection.request, connection)
    if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
    const isOther = (claimed: Id | string | undefined, id: Id): boolean => claimed !== undefined && ids.parse(claimed) !== id
    if (isOther(userId, identity.userId) || isOther(clubId, identity.tenantId)) throw new RealtimeError('RT_IDENTITY_MISMATCH')
    return identity
  }

  const auth = async (connection: Connection, data: unknown): Promise<FrameResult<Authenticated>> => {
    if (!authData.Check(data)) throw invalidData(authData.Errors(data).First())
    const credentials = data as AuthData // checked in the line above
    const isRenewal = connection.phase.name === 'open'
    try {
      const identity = await identify(credentials, connection)
      if (isRenewal) return { ack: await connections.renew(connection, identity), replyEvent: 'authenticated' }
      const { answer, live } = await connections.open(connection, identity, credentials.connectionId ?? randomUUID())
      return { ack: answer, replyEvent: 'authenticated', afterReply: live }
    } catch (err) {
      throw new AuthenticationFailure(err, isRenewal)
    }
  }

  const ping = ({ transport }: Connection): FrameResult<Pong> => {
    transport.notePing()
    return { ack: { timestamp: toIso(clock.now()) }, replyEvent: 'pong' }
  }

  return new Map<string, FrameHandler>([['auth', auth], ['ping', ping]])
}
