import type { FastifyBaseLogger } from 'fastify'
import { thenMaybe, isPromise, catchMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { privateChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { Joining } from '../../lib/delivery/joining.js'
import { RealtimeError } from '../../lib/errors.js'
import { expiryOf, type Identity } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey } from '../../lib/keys.js'
import { ownedConnection } from '../../lib/plugin-kit/owned-connection.js'
import type { RosterConnection, JoinResult } from '../../lib/roster/contract.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { Closing } from './closing.js'
import type { ClientDescription, Connection, Session } from './connection.js'
import { channelsStillAllowed, endIfRefused } from './decisions.js'
import type { ConnectionSettings } from './options.js'
import type { Authenticated, ConnectBody } from './schemas.js'
import type { ConnectionRecord, ConnectionStore } from './store.js'

/** The answer to a socket that authenticated, and what lets live frames follow it. */
export interface OpenResult {
  answer: Authenticated
  live: () => void
}

const NO_CHANNELS: readonly string[] = []

/** The rules of connections: register, open, close, replace, over all nodes. Knows neither HTTP nor frames. */
export class Connections {
  readonly #internals: Internals
  readonly #settings: ConnectionSettings
  readonly #store: ConnectionStore
  readonly #log: FastifyBaseLogger
  readonly #closing: Closing
  readonly #cleanups = new Set<Promise<void>>()

  constructor (internals: Internals, settings: ConnectionSettings, store: ConnectionStore, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#settings = settings
    this.#store = store
    this.#log = log
    this.#closing = new Closing(internals, log)
    internals.bus.on('connectionExpired', (entry) => { this.#recordDisconnected(entry) })
    internals.bus.on('displaced', ({ entry, taken }) => taken
      // It may come back, and is told then that its id is taken.
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
    const joined = await this.#join({ tenantId, userId, connectionId, nodeId: null, device, connectedAt: now })
    const connectedAt = known?.connectedAt ?? now
    // An open socket's row is its node's to write, with the channels it has.
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

  /** Makes a socket the connection `connectionId`, in this turn where roster and backplane answer at once. Throws, or rejects with, `RT_CONNECTION_TAKEN`. */
  open (connection: Connection, identity: Identity, connectionId: string): MaybePromise<OpenResult> {
    const { tenantId, userId } = identity
    const now = this.#internals.clock.now()
    const entry = { tenantId, userId, connectionId, nodeId: this.#internals.nodeId, device: connection.client.device, connectedAt: now }
    return thenMaybe(this.#join(entry), ({ isNew, generation }) => {
      if (connection.phase.name === 'closing') return this.#abandonOpen({ tenantId, userId, connectionId, generation })
      connection.open({ identity, connectionId, generation, connectedAt: now, authenticatedAt: now, warned: false })
      this.#internals.localConnections.set(connectionKey(tenantId, connectionId), connection)
      this.#requireUnrestricted(connection)
      // Asked for by REST before the socket opened.
      const requested = isNew ? NO_CHANNELS : channelsStillAllowed(this.#internals, connection)
      return thenMaybe(requested, (channels) => this.#subscribed(connection, channels))
    })
  }

  /** Banned or revoked while the host or the roster was asked: the decision did not find this connection, or these credentials. */
  #requireUnrestricted (connection: Connection): void {
    const refusal = endIfRefused(this.#internals.restrictions, connection)
    if (refusal !== null) throw refusal
  }

  /** Joins a new connection's first channels. */
  #subscribed (connection: Connection, requested: readonly string[]): MaybePromise<OpenResult> {
    const joins: Array<MaybePromise<Joining>> = []
    for (const channel of [privateChannel(connection.identity.userId), ...this.#internals.defaultChannels, ...requested]) {
      if (!connection.channels.has(channel)) joins.push(connection.join(channel))
    }
    const joined = joins.every(isJoined) ? joins : Promise.all(joins.map(async (joining) => await joining))
    return thenMaybe(joined, ([own, ...others]) => {
      connection.recorder = this
      this.record(connection)
      return {
        answer: this.describe(connection),
        live: () => {
          for (const joining of others) connection.begin(joining)
          // What waited for the user is older than what comes now.
          if (own !== undefined) connection.begin(own, { first: this.#internals.waiting?.(connection) })
          this.#internals.bus.emit('opened', connection)
        }
      }
    })
  }

  /** Gone while the roster was asked: its close found nothing to clean up. */
  async #abandonOpen ({ tenantId, userId, connectionId, generation }: Pick<RosterConnection, 'tenantId' | 'userId' | 'connectionId' | 'generation'>): Promise<never> {
    await this.#internals.roster.leave({ tenantId, connectionId, generation })
    this.#internals.bus.emit('disconnected', { tenantId, userId, connectionId })
    throw new RealtimeError('RT_UNAUTHENTICATED')
  }

  /** Takes newer credentials of the same user. Throws `RT_IDENTITY_MISMATCH`. */
  renew (connection: Connection, identity: Identity): Authenticated {
    const { tenantId, userId } = connection.identity
    if (identity.tenantId !== tenantId || identity.userId !== userId) throw new RealtimeError('RT_IDENTITY_MISMATCH')
    if (connection.phase.name === 'open') {
      connection.phase.session = { ...connection.phase.session, identity, authenticatedAt: this.#internals.clock.now(), warned: false }
      this.#requireUnrestricted(connection)
      this.#internals.bus.emit('renewed', connection)
    }
    return this.describe(connection)
  }

  describe (connection: Connection): Authenticated {
    const { identity, id, channels } = connection
    return {
      status: 'ok',
      connectionId: id,
      userId: identity.userId,
      clubId: identity.tenantId,
      channels: [...channels],
      expiresAt: expiryOf(identity) === Infinity ? null : toIso(expiryOf(identity)),
      heartbeatInterval: this.#settings.pingInterval,
      epoch: this.#internals.eventLog.epoch.current
    }
  }

  /** Writes the connection's row, later, with the channels it has then. */
  record (connection: Connection): void {
    if (connection.phase.name !== 'open') return
    this.#store.put(this.#recordOf(connection.phase.session, [...connection.channels], connection.client, 'connected'))
  }

  /** After a socket closed, for whatever reason: the one path on which everything of it is let go. Never throws. */
  onSocketClosed (connection: Connection, session: Session): void {
    const cleanup = this.#cleanUp(connection, session)
    if (!isPromise(cleanup)) return
    this.#cleanups.add(cleanup)
    void cleanup.then(() => this.#cleanups.delete(cleanup))
  }

  /** Resolves when every socket closed so far is let go. */
  async whenCleanedUp (): Promise<void> {
    await Promise.all(this.#cleanups)
  }

  #cleanUp (connection: Connection, session: Session): MaybePromise<void> {
    const { tenantId, userId } = session.identity
    const { connectionId, generation } = session
    const key = connectionKey(tenantId, connectionId)
    const channels = [...connection.channels]
    if (this.#internals.localConnections.get(key) === connection) this.#internals.localConnections.delete(key)
    for (const channel of channels) connection.leave(channel)
    const grace = connection.phase.name === 'closing' ? this.#graceAfter(connection.phase.code) : undefined
    return thenMaybe(this.#wasReplaced({ tenantId, userId, connectionId, generation }, grace), (wasReplaced) => {
      if (!wasReplaced) {
        this.#store.put(this.#recordOf(session, channels, connection.client, 'disconnected'))
        this.#internals.bus.emit('disconnected', { tenantId, userId, connectionId })
      }
      this.#log.info({ connection_id: connectionId, user_id: userId, tenant_id: tenantId }, wasReplaced ? 'Connection replaced' : 'Connection closed')
    })
  }

  /** Takes a closed socket from the roster. True: a newer one under the same id, with another generation, took its place. */
  #wasReplaced (entry: Pick<RosterConnection, 'tenantId' | 'userId' | 'connectionId' | 'generation'>, grace?: number): MaybePromise<boolean> {
    const { roster } = this.#internals
    return catchMaybe(() => thenMaybe(roster.leave(entry, grace), (left) =>
      left ? false : roster.find(entry.tenantId, entry.connectionId).then((found) => found?.userId === entry.userId && found.generation !== entry.generation)), (err) => {
      this.#log.warn({ err, connection_id: entry.connectionId }, 'the roster keeps a closed connection for now')
      return false
    })
  }

  /** Ends one of the caller's connections, on whichever node it is. Throws `RT_NOT_FOUND`, `RT_FORBIDDEN`. */
  async disconnect (identity: Identity, connectionId: string): Promise<void> {
    await this.#end(await ownedConnection(this.#internals.roster, identity, connectionId), CloseCode.disconnected, 'disconnected by request')
  }

  /** A sign of life of a connection without a socket. Throws `RT_NOT_FOUND`, `RT_FORBIDDEN`. */
  async heartbeat (identity: Identity, connectionId: string): Promise<void> {
    await ownedConnection(this.#internals.roster, identity, connectionId)
    await this.#internals.roster.heartbeat(identity.tenantId, connectionId)
  }

  /** Closes one connection, wherever it is. False: there is none. */
  async close (tenantId: Id, connectionId: string, code: number, reason: string): Promise<boolean> {
    const entry = await this.#internals.roster.find(tenantId, connectionId)
    if (entry === null) return await this.#closing.unlisted(tenantId, connectionId, code, reason)
    await this.#end(entry, code, reason)
    return true
  }

  /** Closes every connection of a user, also those that the roster does not know; answers how many there were. */
  async closeUser (tenantId: Id, userId: Id, code: number, reason: string): Promise<number> {
    const closed = this.#closing.user(tenantId, userId, code, reason)
    // While Redis is away nobody knows of others than this node's own.
    const entries = await this.#internals.roster.connectionsOf(tenantId, userId).catch(() => [])
    await Promise.all(entries.map(async (entry) => { await this.#end(entry, code, reason) }))
    return new Set([...await closed, ...entries.map(({ connectionId }) => connectionId)]).size
  }

  /** Ends the connections of a user that have no socket; returns how many there were. */
  async endRegistered (tenantId: Id, userId: Id): Promise<number> {
    const entries = (await this.#internals.roster.connectionsOf(tenantId, userId)).filter(({ nodeId }) => nodeId === null)
    await Promise.all(entries.map(async (entry) => { await this.#end(entry, CloseCode.forbidden, 'banned') }))
    return entries.length
  }

  #join (entry: Omit<RosterConnection, 'generation'>): MaybePromise<{ isNew: boolean, generation: string }> {
    const { tenantId, userId, connectionId } = entry
    const { roster, tenantLimits } = this.#internals
    return thenMaybe(tenantLimits.openConnection(tenantId, connectionId, () => roster.join(entry, this.#settings.maxConnectionsPerUser)), (joined) => {
      if (joined.ownedByOther) throw new RealtimeError('RT_CONNECTION_TAKEN')
      return thenMaybe(this.#closeOthers(joined), () => {
        if (joined.isNew) {
          this.#internals.bus.emit('connected', { tenantId, userId, connectionId })
          this.#log.info({ connection_id: connectionId, user_id: userId, tenant_id: tenantId }, 'Connection registered')
        }
        if (joined.isFirstOfUser) this.#internals.bus.emit('online', { tenantId, userId, connectionId })
        return joined
      })
    })
  }

  /** Those whose place a new connection takes. */
  #closeOthers ({ replaced, evicted }: JoinResult): MaybePromise<void> {
    if (replaced === null && evicted.length === 0) return
    return (async () => {
      if (replaced !== null) await this.#closing.socket(replaced, CloseCode.replaced, 'opened again elsewhere')
      for (const entry of evicted) {
        await this.#closing.socket(entry, CloseCode.replaced, 'too many connections: the oldest goes')
        if (entry.nodeId === null) this.#recordDisconnected(entry)
      }
    })()
  }

  async #end (entry: RosterConnection, code: number, reason: string): Promise<void> {
    await this.#closing.socket(entry, code, reason)
    const left = await this.#internals.roster.leave(entry, this.#graceAfter(code))
    if (entry.nodeId === null && left) this.#recordDisconnected(entry)
  }

  /** Whoever was sent away comes back, as soon as another node lets them in. */
  #graceAfter (code: number | null): number | undefined {
    return code === CloseCode.restarting ? this.#settings.drainGrace : undefined
  }

  /** A connection without a socket is over. */
  #recordDisconnected ({ tenantId, userId, connectionId }: RosterConnection): void {
    this.#store.markDisconnected(tenantId, connectionId, this.#internals.clock.now())
    this.#internals.bus.emit('disconnected', { tenantId, userId, connectionId })
    this.#log.info({ connection_id: connectionId, user_id: userId, tenant_id: tenantId }, 'Connection closed')
  }

  #recordOf (session: Session, channels: string[], client: ClientDescription, status: ConnectionRecord['status']): ConnectionRecord {
    return {
      tenantId: session.identity.tenantId,
      userId: session.identity.userId,
      connectionId: session.connectionId,
      sessionId: null,
      browser: client.browser,
      deviceType: client.device,
      ipAddress: client.ipAddress,
      channels,
      status,
      connectedAt: session.connectedAt,
      lastActivityAt: this.#internals.clock.now(),
      nodeId: this.#internals.nodeId
    }
  }
}

const isJoined = (joining: MaybePromise<Joining>): joining is Joining => !isPromise(joining)
