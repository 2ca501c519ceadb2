import type { FastifyBaseLogger } from 'fastify'
import { catchMaybe, isPromise, thenMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey } from '../../lib/keys.js'
import type { RosterConnection } from '../../lib/roster/contract.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import type { Connection, Session } from './connection.js'
import type { ConnectionSettings } from './options.js'
import type { ConnectionStore } from './store.js'

/** Removes the registration, subscriptions and typing of connections whose socket or stream has closed. */
export class Cleanups {
  readonly #internals: Internals
  readonly #settings: ConnectionSettings
  readonly #store: ConnectionStore
  readonly #log: FastifyBaseLogger
  readonly #running = new Set<Promise<void>>()

  constructor (internals: Internals, settings: ConnectionSettings, store: ConnectionStore, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#settings = settings
    this.#store = store
    this.#log = log
  }

  /** Never throws. */
  onClosed (connection: Connection): void {
    this.#internals.access.release(connection)
    const session = connection.end()
    if (session === null) return
    const cleanup = this.#cleanUp(connection, session)
    if (!isPromise(cleanup)) return
    this.#running.add(cleanup)
    void cleanup.then(() => this.#running.delete(cleanup))
  }

  /** Resolves when the cleanup of every socket that has closed so far is done. */
  async whenDone (): Promise<void> {
    await Promise.all(this.#running)
  }

  /** Synchronous if the roster is: no promise per closed socket (bench row "connect"). */
  #cleanUp (connection: Connection, session: Session): MaybePromise<void> {
    const { tenantId, userId } = session.identity
    const { connectionId, generation } = session
    const key = connectionKey(tenantId, connectionId)
    const channels = [...connection.channels]
    if (this.#internals.localConnections.get(key) === connection) this.#internals.localConnections.delete(key)
    const grace = connection.phase.name === 'closing' ? graceAfter(connection.phase.code, this.#settings) : undefined
    for (const channel of channels) connection.leave(channel, grace ?? this.#internals.settings.presenceGrace)
    for (const channel of connection.hidden) connection.leave(channel)
    return thenMaybe(this.#wasReplaced({ tenantId, userId, connectionId, generation }, grace), (wasReplaced) => {
      if (!wasReplaced) {
        this.#store.putSession(session, connection.client, channels, 'disconnected')
        this.#internals.bus.emit('disconnected', { tenantId, userId, connectionId })
      }
      this.#log.info({ connection_id: connectionId, user_id: userId, tenant_id: tenantId }, wasReplaced ? 'Connection replaced' : 'Connection closed')
    })
  }

  /** Removes a closed socket from the roster. True if a newer one with the same id, of another generation, has replaced it. */
  #wasReplaced (entry: Pick<RosterConnection, 'tenantId' | 'userId' | 'connectionId' | 'generation'>, grace?: number): MaybePromise<boolean> {
    const { roster } = this.#internals
    const hasReplacement = async (): Promise<boolean> => {
      const found = await roster.find(entry.tenantId, entry.connectionId)
      return found?.userId === entry.userId && found.generation !== entry.generation
    }
    return catchMaybe(() => thenMaybe(roster.leave(entry, grace), (left) => left ? false : hasReplacement()), (err) => {
      this.#log.warn({ err, connection_id: entry.connectionId }, 'Could not remove a connection from the roster: it expires with the lease of this node')
      return false
    })
  }
}

/** Clients of a node that restarts reconnect to another one, as soon as it accepts them. */
export function graceAfter (code: number | null, { drainGrace }: Pick<ConnectionSettings, 'drainGrace'>): number | undefined {
  return code === CloseCode.restarting ? drainGrace : undefined
}
