import type { FastifyBaseLogger } from 'fastify'
import { thenMaybe, isPromise, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { PRESENCE_CHANNEL, privateChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { Joining } from '../../lib/delivery/joining.js'
import { RealtimeError } from '../../lib/errors.js'
import { expiryOf, type Identity } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey } from '../../lib/keys.js'
import { ownedConnection } from '../../lib/plugin-kit/owned-connection.js'
import type { JoinResult, RosterConnection, Standing } from '../../lib/roster/contract.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { Cleanups, graceAfter } from './cleanups.js'
import { Closing } from './closing.js'
import type { ClientDescription, Connection, Session } from './connection.js'
import { endIfRefused, openKnown } from './decisions.js'
import type { ConnectionSettings } from './options.js'
import type { Authenticated, ConnectBody } from './schemas.js'
import type { ConnectionStore } from './store.js'

/** The reply to a socket that authenticated. `live` starts the delivery of events, and is called after the reply was written. */
export interface OpenResult {
  answer: Authenticated
  live: () => void
}

export type NewConnection = Omit<RosterConnection, 'generation'>

const NO_CHANNELS: readonly string[] = []

/** The rules of connections on all nodes: register, open, renew, replace, close. Independent of HTTP and of frames. */
export class Connections {
  readonly #internals: Internals
  readonly #settings: ConnectionSettings
  readonly #store: ConnectionStore
  readonly #log: FastifyBaseLogger
  readonly #closing: Closing
  readonly #cleanups: Cleanups

  constructor (internals: Internals, settings: ConnectionSettings, store: ConnectionStore, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#settings = settings
    this.#store = store
    this.#log = log
    this.#closing = new Closing(internals, log)
    this.#cleanups = new Cleanups(internals, settings, store, log)
    internals.bus.on('connectionExpired', (entry) => { this.#recordDisconnected(entry) })
    internals.bus.on('displaced', ({ entry, taken }) => taken
      // The client may reconnect; then it gets RT_CONNECTION_TAKEN.
      ? this.#closing.socket(entry, CloseCode.overloaded, 'the connection id belongs to someone else')
      : this.#closing.socket(entry, CloseCode.replaced, 'opened again elsewhere'))
  }

  /** Registers a connection that has no socket yet, or refreshes one. Throws `RT_CONNECTION_TAKEN`. */
  async register (identity: Identity, body: ConnectBody, client: ClientDescription): Promise<{ isNew: boolean, connectedAt: number }> {
    const { tenantId, userId } = identity
    const connectionId = body.connection_id
    const now = this.#internals.clock.now()
    const known = await this.#internals.roster.find(tenantId, connectionId)
    const device = body.device_type ?? client.device
    const joined = await this.join({ tenantId, userId, connectionId, nodeId: null, device, connectedAt: now })
    const connectedAt = known?.connectedAt ?? now
    // The row of an open socket is written by its node, which knows the channels.
    if (known !== null && known.nodeId !== null) return { isNew: false, connectedAt }
    this.#store.put({
      tenantId,
      userId,
      connectionId,
      sessionId: body.session_id ?? null,
      browser: body.browser ?? client.browser,
      deviceType: device,
      ipAddress: client.ipAddress,
      channels: [],
      status: 'connected',
      connectedAt,
      lastActivityAt: now,
      nodeId: null
    })
    return { isNew: joined.isNew, connectedAt }
  }

  /**
   * Registers a socket as the connection `connectionId` and subscribes its first channels. Throws, or rejects with,
   * `RT_CONNECTION_TAKEN`. Synchronous if roster and backplane are (bench row "connect").
   */
  open (connection: Connection, identity: Identity, connectionId: string): MaybePromise<OpenResult> {
    const { tenantId, userId } = identity
    const now = this.#internals.clock.now()
    const entry = { tenantId, userId, connectionId, nodeId: this.#internals.nodeId, device: connection.client.device, connectedAt: now }
    return thenMaybe(this.join(entry), ({ isNew, generation, standing }) =>
      this.#opened(connection, { identity, connectionId, generation, connectedAt: now, authenticatedAt: now, warned: false }, isNew, standing))
  }

  #opened (connection: Connection, session: Session, isNew: boolean, standing: Standing): MaybePromise<OpenResult> {
    if (connection.closed) return this.abandonOpen(session)
    this.enter(connection, session)
    if (isNew) return this.#subscribe(connection, NO_CHANNELS, standing)
    return openKnown(this.#internals, connection, async (channels) => await this.#subscribe(connection, channels, standing))
  }

  /** Assigns the connection to its user. Throws the reason if the user is banned, or the credentials are revoked. */
  enter (connection: Connection, session: Session): void {
    connection.open(session)
    this.#internals.localConnections.set(connectionKey(session.identity.tenantId, session.connectionId), connection)
    this.#requireUnrestricted(connection)
  }

  /** A ban or a revocation during the awaits of the caller did not find this connection, or not these credentials. */
  #requireUnrestricted (connection: Connection): void {
    const refusal = endIfRefused(this.#internals.restrictions, connection)
    if (refusal !== null) throw new RealtimeError(refusal.code, refusal.message)
  }

  /** Subscribes the first channels of a connection. */
  #subscribe (connection: Connection, requested: readonly string[], standing: Standing): MaybePromise<OpenResult> {
    const joins: Array<MaybePromise<Joining>> = []
    for (const channel of [privateChannel(connection.identity.userId), ...this.#internals.defaultChannels, ...requested]) {
      if (!connection.channels.has(channel)) joins.push(connection.join(channel))
    }
    const joined = joins.every(isJoined) ? joins : Promise.all(joins.map(async (joining) => await joining))
    return thenMaybe(joined, (joinings) => this.#subscribed(connection, joinings, standing))
  }

  #subscribed (connection: Connection, [own, ...others]: readonly Joining[], standing: Standing): OpenResult {
    connection.onChannelsChanged(this.record)
    this.record(connection)
    return {
      answer: this.describe(connection, standing),
      live: () => {
        for (const joining of others) connection.begin(joining)
        // Events that were waiting for the user are older than live events.
        if (own !== undefined) connection.begin(own, { first: this.#internals.waiting?.(connection) })
        this.#internals.bus.emit('opened', connection)
      }
    }
  }

  /** The socket closed during the call of the roster, so its cleanup found no session: removes the connection. */
  async abandonOpen ({ identity: { tenantId, userId }, connectionId, generation }: Session): Promise<never> {
    await this.#internals.roster.leave({ tenantId, connectionId, generation })
    this.#internals.bus.emit('disconnected', { tenantId, userId, connectionId })
    throw new RealtimeError('RT_UNAUTHENTICATED')
  }

  /** Replaces the credentials with newer ones of the same user. Throws `RT_IDENTITY_MISMATCH`. */
  async renew (connection: Connection, identity: Identity): Promise<Authenticated> {
    const { tenantId, userId } = connection.identity
    if (identity.tenantId !== tenantId || identity.userId !== userId) throw new RealtimeError('RT_IDENTITY_MISMATCH')
    if (connection.renew(identity)) {
      this.#requireUnrestricted(connection)
      this.#internals.bus.emit('renewed', connection)
    }
    return this.describe(connection, await this.#internals.roster.standing(tenantId, userId))
  }

  /** The data of `authenticated`. */
  describe (connection: Connection, standing: Standing): Authenticated {
    const { identity, id, channels } = connection
    return {
      status: 'ok',
      connectionId: id,
      userId: identity.userId,
      clubId: identity.tenantId,
      channels: [...channels],
      expiresAt: expiryOf(identity) === Infinity ? null : toIso(expiryOf(identity)),
      heartbeatInterval: this.#settings.pingInterval,
      epoch: this.#internals.eventLog.epoch.current,
      ...(this.#internals.defaultChannels.has(PRESENCE_CHANNEL) ? { presence: standing } : {})
    }
  }

  /** Writes the connection's row behind, with its current channels. */
  readonly record = (connection: Connection): void => {
    if (connection.phase.name !== 'open') return
    this.#store.putSession(connection.phase.session, connection.client, [...connection.channels], 'connected')
  }

  /** A socket or stream closed, for any reason. Never throws. */
  onClosed (connection: Connection): void {
    this.#cleanups.onClosed(connection)
  }

  /** Resolves when the cleanup of every socket that has closed so far is done. */
  async whenCleanedUp (): Promise<void> {
    await this.#cleanups.whenDone()
  }

  /** Ends one of the caller's connections, on whichever node it is. Throws `RT_NOT_FOUND`, `RT_FORBIDDEN`. */
  async disconnect (identity: Identity, connectionId: string): Promise<void> {
    await this.#end(await ownedConnection(this.#internals.roster, identity, connectionId), CloseCode.disconnected, 'disconnected by request')
  }

  /** Keeps a connection without a socket registered. Throws `RT_NOT_FOUND`, `RT_FORBIDDEN`. */
  async heartbeat (identity: Identity, connectionId: string): Promise<void> {
    await ownedConnection(this.#internals.roster, identity, connectionId)
    await this.#internals.roster.heartbeat(identity.tenantId, connectionId)
  }

  /** Closes one connection, on whichever node it is. False if no node has it. */
  async close (tenantId: Id, connectionId: string, code: number, reason: string): Promise<boolean> {
    const entry = await this.#internals.roster.find(tenantId, connectionId)
    if (entry === null) return await this.#closing.unlisted(tenantId, connectionId, code, reason)
    await this.#end(entry, code, reason)
    return true
  }

  /** Closes every connection of a user, including those missing from the roster. Returns their number. */
  async closeUser (tenantId: Id, userId: Id, code: number, reason: string): Promise<number> {
    const closed = this.#closing.user(tenantId, userId, code, reason)
    // While Redis is unavailable only the connections of this node are known.
    const entries = await this.#internals.roster.connectionsOf(tenantId, userId).catch(() => [])
    await Promise.all(entries.map(async (entry) => { await this.#end(entry, code, reason) }))
    return new Set([...await closed, ...entries.map(({ connectionId }) => connectionId)]).size
  }

  /** Ends the connections of a user that have no socket. Returns their number. */
  async endRegistered (tenantId: Id, userId: Id): Promise<number> {
    const entries = (await this.#internals.roster.connectionsOf(tenantId, userId)).filter(({ nodeId }) => nodeId === null)
    await Promise.all(entries.map(async (entry) => { await this.#end(entry, CloseCode.forbidden, 'banned') }))
    return entries.length
  }

  /** Registers a connection in the roster, and closes those that it replaces. Synchronous like `open`, and for the same bench row. */
  join (entry: NewConnection): MaybePromise<{ isNew: boolean, generation: string, standing: Standing }> {
    const { roster, tenantLimits } = this.#internals
    return thenMaybe(thenMaybe(tenantLimits.connections(entry.tenantId), (max) => roster.join(entry, this.#settings.maxConnectionsPerUser, max)), (joined) => {
      if (joined.ownedByOther) throw new RealtimeError('RT_CONNECTION_TAKEN')
      if (joined.isTenantFull) throw new RealtimeError('RT_LIMIT_EXCEEDED', 'This tenant has the maximum number of connections')
      return thenMaybe(this.#closeOthers(joined), () => {
        this.#announce(entry, joined)
        return joined
      })
    })
  }

  #announce ({ tenantId, userId, connectionId }: NewConnection, { isNew, isFirstOfUser, hasAppeared, presence }: JoinResult): void {
    if (isNew) {
      this.#internals.bus.emit('connected', { tenantId, userId, connectionId })
      this.#log.info({ connection_id: connectionId, user_id: userId, tenant_id: tenantId }, 'Connection registered')
    }
    if (isFirstOfUser) this.#internals.bus.emit('online', { tenantId, userId, connectionId, presence })
    else if (hasAppeared) this.#internals.bus.emit('appeared', { tenantId, userId, connectionId })
  }

  /** Closes the connections that a new one replaces. */
  #closeOthers ({ replaced, evicted }: JoinResult): MaybePromise<void> {
    if (replaced !== null || evicted.length > 0) return this.#closeEach(replaced, evicted)
  }

  async #closeEach (replaced: JoinResult['replaced'], evicted: JoinResult['evicted']): Promise<void> {
    if (replaced !== null) await this.#closing.socket(replaced, CloseCode.replaced, 'opened again elsewhere')
    for (const entry of evicted) {
      await this.#closing.socket(entry, CloseCode.replaced, 'too many connections: the oldest goes')
      if (entry.nodeId === null) this.#recordDisconnected(entry)
    }
  }

  async #end (entry: RosterConnection, code: number, reason: string): Promise<void> {
    await this.#closing.socket(entry, code, reason)
    const left = await this.#internals.roster.leave(entry, graceAfter(code, this.#settings))
    if (entry.nodeId === null && left) this.#recordDisconnected(entry)
  }

  /** A connection without a socket ended. */
  #recordDisconnected ({ tenantId, userId, connectionId }: RosterConnection): void {
    this.#store.markDisconnected(tenantId, connectionId, this.#internals.clock.now())
    this.#internals.bus.emit('disconnected', { tenantId, userId, connectionId })
    this.#log.info({ connection_id: connectionId, user_id: userId, tenant_id: tenantId }, 'Connection closed')
  }
}

const isJoined = (joining: MaybePromise<Joining>): joining is Joining => !isPromise(joining)
