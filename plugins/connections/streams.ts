import { randomUUID } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { privateChannel } from '../../lib/channel-names.js'
import { RealtimeError, toRealtimeError } from '../../lib/errors.js'
import type { Caller, Identity } from '../../lib/identity.js'
import type { CheckedChannel, Internals } from '../../lib/internals.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import { Connection } from './connection.js'
import type { Connections } from './connections.js'
import { openStream, type OpenStream } from './open-stream.js'
import type { ConnectionSettings } from './options.js'
import type { StreamQuery } from './schemas.js'
import type { ConnectionStore } from './store.js'
import { StreamCursor, type CursorSource } from './stream-cursor.js'
import { cursorOf, positionsOf, type Outcome } from './stream-positions.js'
import { StreamTransport } from './stream-transport.js'
import type { Supervisor } from './supervisor.js'
import { describeClient } from './user-agent.js'

export interface StreamsParts {
  internals: Internals
  settings: ConnectionSettings
  connections: Connections
  supervisor: Supervisor
  store: ConnectionStore
}

/** The rules of streams: connections whose frames go one way, with one cursor for all of their channels. */
export class Streams {
  readonly #parts: StreamsParts
  readonly #onClose: (this: object) => void

  constructor (parts: StreamsParts) {
    this.#parts = parts
    const { supervisor, connections } = parts
    // One function for all streams: a closure for each would stay as long as the stream does.
    this.#onClose = function () {
      const connection = supervisor.of(this)
      if (connection === undefined) return
      supervisor.forget(this)
      connections.onClosed(connection)
    }
  }

  /** Opens a stream as the response to a request. Rejects if it cannot be opened, or if all of its channels are refused (`RT_FORBIDDEN`). */
  async open (caller: Caller, request: FastifyRequest, reply: FastifyReply, query: StreamQuery): Promise<void> {
    const { internals, settings, connections, supervisor } = this.#parts
    const { accessLog, bus } = internals
    const { identity } = caller
    const position = cursorOf(request, query)
    const connectionId = query.connection_id ?? randomUUID()
    const decisions = accessLog.count
    const checked = await this.#check(caller, [...namesIn(query.channels), ...await this.#requested(identity, query, position !== undefined)])
    requireOne(checked.map(({ error }) => error))

    const cursor = new StreamCursor()
    const transport = new StreamTransport(request, reply, cursor)
    const connection = new Connection({ transport, request, client: describeClient(request) }, internals, settings)
    // The client disconnected while the host's function ran.
    if (reply.raw.destroyed) return
    supervisor.watch(connection)
    reply.raw.on('close', this.#onClose)

    const since = position?.id ?? 0
    const opened = await openStream(connections, internals, connection, { identity, connectionId, since })
    const joined = await this.#join(connection, opened, checked, since)
    // Joined before the check, so that a decision of the host in between finds the channel.
    const outcomes = accessLog.count === decisions ? joined : await this.#checkAgain(caller, connection, joined)
    requireOne(outcomes.map((outcome) => 'error' in outcome ? outcome.error : null))
    const beginWatches = query.connection_id === undefined ? undefined : await internals.beginWatches?.(connection)
    const { answers, live } = await positionsOf(internals, connection, opened.joined, outcomes, position)
    if (connection.closed) throw new RealtimeError('RT_UNAVAILABLE', 'The connection was closed', { retryAfter: 1 })

    transport.start()
    cursor.source = new Source(internals, connection)
    connection.send(encodeFrame('authenticated', opened.describe()))
    for (const answer of answers) connection.send(answer)
    live()
    beginWatches?.()
    cursor.begin()
    transport.replayed()
    bus.emit('opened', connection)
  }

  /** Channels that were requested by REST; for a resumed connection, its previous channels. */
  async #requested (identity: Identity, { connection_id: connectionId }: StreamQuery, isBack: boolean): Promise<readonly string[]> {
    if (connectionId === undefined) return []
    const { roster } = this.#parts.internals
    const { tenantId, userId } = identity
    const known = await roster.find(tenantId, connectionId)
    if (known !== null && known.userId !== userId) throw new RealtimeError('RT_CONNECTION_TAKEN')
    const requested = await roster.channels(tenantId, connectionId).catch(() => [])
    const before = isBack ? await this.#parts.store.channelsOf(tenantId, userId, connectionId) : []
    const { defaultChannels } = this.#parts.internals
    return [...requested, ...before].filter((channel) => channel !== privateChannel(userId) && !defaultChannels.has(channel))
  }

  async #check (caller: Caller, names: readonly string[]): Promise<CheckedChannel[]> {
    const { streamSubscriptions } = this.#parts.internals
    if (names.length === 0) return []
    return await streamSubscriptions?.check(caller, names) ??
      names.map((channel) => ({ channel, error: new RealtimeError('RT_FORBIDDEN', 'This server has no channels') }))
  }

  async #join (connection: Connection, { joined }: OpenStream, checked: readonly CheckedChannel[], since: number): Promise<Outcome[]> {
    return await Promise.all(checked.map(async ({ channel, error }): Promise<Outcome> => {
      if (error !== null) return { channel, error }
      const known = joined.get(channel)
      if (known !== undefined) return { channel, joining: known, members: null, begun: () => {} }
      try {
        const { streamSubscriptions } = this.#parts.internals
        if (streamSubscriptions === null) throw new RealtimeError('RT_FORBIDDEN')
        return { channel, ...await streamSubscriptions.join(connection, channel, since) }
      } catch (err) {
        return { channel, error: toRealtimeError(err) }
      }
    }))
  }

  /** Checks again after a kick, a ban or a recheck in the meantime, because the results of `authorize` are older. */
  async #checkAgain (caller: Caller, connection: Connection, outcomes: readonly Outcome[]): Promise<Outcome[]> {
    const again = new Map((await this.#check(caller, outcomes.map(({ channel }) => channel))).map(({ channel, error }) => [channel, error]))
    return outcomes.map((outcome) => {
      const error = again.get(outcome.channel) ?? null
      if ('error' in outcome || error === null) return outcome
      connection.leave(outcome.channel)
      return { channel: outcome.channel, error }
    })
  }
}

/** The state of a connection on which its cursor depends. */
class Source implements CursorSource {
  readonly #internals: Internals
  readonly #connection: Connection

  constructor (internals: Internals, connection: Connection) {
    this.#internals = internals
    this.#connection = connection
  }

  get isSettled (): boolean {
    const { hub, backplane } = this.#internals
    const { waitsOn, channels, phase } = this.#connection
    return waitsOn === 0 && phase.name === 'open' && backplane.healthy && !hub.hasGap(phase.session.identity.tenantId, channels)
  }

  get epoch (): string {
    return this.#internals.eventLog.epoch.current
  }

  get newest (): number {
    return this.#internals.eventLog.epoch.newest
  }
}

const namesIn = (channels: string | undefined): string[] => (channels ?? '').split(',').filter((name) => name !== '')

/** Throws if all channels failed. */
function requireOne (errors: ReadonlyArray<RealtimeError | null>): void {
  if (errors.length === 0 || errors.includes(null)) return
  throw errors.find((error) => error?.code === 'RT_FORBIDDEN') ?? errors[0] ?? new RealtimeError('RT_FORBIDDEN')
}
