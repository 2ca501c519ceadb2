import { Type, type Static } from '@sinclair/typebox'
import { rateLimited } from '../../lib/access/rate-counters.js'
import { withTimeout } from '../../lib/async/with-timeout.js'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { RealtimeError } from '../../lib/errors.js'
import { Id, withIds } from '../../lib/id-schemas.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey, rateKey } from '../../lib/keys.js'
import { ownedConnection } from '../../lib/plugin-kit/owned-connection.js'
import type { ClientFrame } from '../../lib/wire/protocol.js'
import { Connection } from './connection.js'
import type { FramePipeline } from './frame-pipeline.js'
import { StreamTransport } from './stream-transport.js'

const Frames = Type.Object({ tenantId: Id, connectionId: Type.String(), frames: Type.Array(Type.String()) })
type Frames = Static<typeof Frames>
const FRAMES = 'connections.frames'
/** Time for which a request waits while too many frames of its connection do; shorter than a call between nodes may take. */
const ROOM_TIMEOUT_MS = 2000

/** Frames that clients of streams send by REST. The replies are events of the stream. */
export class Uplink {
  readonly #internals: Internals
  readonly #pipeline: FramePipeline
  readonly #perMinute: number

  /** `framesPerSecond` also limits the requests of a user per second, on average over a minute; 0: no limit. */
  constructor (internals: Internals, pipeline: FramePipeline, framesPerSecond: number) {
    this.#perMinute = framesPerSecond * 60
    this.#internals = internals
    this.#pipeline = pipeline
    const schema = withIds(Frames, internals.ids.kind)
    internals.rpc.handle(FRAMES, async (data) => { await this.#receive(checkedData(schema, data)) })
  }

  /** Counts a request before its body is read, because a request with an unknown connection id is not counted by a connection. Throws `RT_RATE_LIMITED`. */
  count (identity: Identity): void {
    this.#internals.sharedRates.take(rateKey('uplink', identity), 1, this.#perMinute)
  }

  /**
   * Handles frames of one of the caller's connections in their order, on the node that has it. If too many frames wait, the
   * request waits, as the reading of a socket does. Throws `RT_NOT_FOUND`, `RT_FORBIDDEN`, and `RT_RATE_LIMITED` without having
   * handled any.
   */
  async send (identity: Identity, connectionId: string, frames: readonly ClientFrame[]): Promise<void> {
    const { roster, rpc } = this.#internals
    const { tenantId } = identity
    const { nodeId } = await ownedConnection(roster, identity, connectionId)
    if (nodeId === null) throw new RealtimeError('RT_NOT_FOUND', 'The connection has no stream yet')
    try {
      await rpc.call(nodeId, FRAMES, { tenantId, connectionId, frames: frames.map((frame) => JSON.stringify(frame)) } satisfies Frames)
    } catch (err) {
      // The error of another node has no `retryAfter`.
      throw err instanceof RealtimeError && err.code === 'RT_RATE_LIMITED' ? rateLimited(1000) : err
    }
  }

  async #receive ({ tenantId, connectionId, frames }: Frames): Promise<void> {
    const connection = this.#internals.localConnections.get(connectionKey(tenantId, connectionId))
    if (!(connection instanceof Connection)) throw new RealtimeError('RT_NOT_FOUND', 'No connection has this id')
    if (!(connection.transport instanceof StreamTransport)) throw new RealtimeError('RT_NOT_FOUND', 'The connection has a socket: send its frames there')
    const { order } = connection
    // Clients send one request after the other: a second waiting one would only use memory.
    if (order.isAwaited) throw rateLimited(1000)
    if (order.isBusy) await withTimeout(order.room(), ROOM_TIMEOUT_MS, () => rateLimited(1000))
    if (connection.closed) throw new RealtimeError('RT_NOT_FOUND', 'No connection has this id')
    connection.noteActivity()
    for (const frame of frames) this.#pipeline.receive(connection, frame)
  }
}
