import type { AccessControl } from './access/control.js'
import type { Internals } from './internals.js'
import type { RealtimeEvents } from './lifecycle/events.js'
import { asyncapi, type AsyncApiDocument, type AsyncApiOptions } from './wire/asyncapi.js'

/** Title, version and address of an AsyncAPI document. */
export type AsyncApiInfo = Omit<AsyncApiOptions, 'events' | 'prefix'>

/** Whether database and Redis can be used now. `ok` is true when both can. */
export interface Health { ok: boolean, database: boolean, redis: boolean }

/** The parts that registered plugins add to `app.realtime`, by declaration merging. Reading a part that is not registered throws. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the plugins
export interface RealtimeParts {}

/** `app.realtime`: the API for hosts. */
export interface Realtime extends RealtimeParts {
  /** Unique id of this process, new at every start. */
  readonly nodeId: string
  /** Path prefix of all routes, `/api/websocket` by default; that of the scope around the core comes before it. */
  readonly prefix: string
  /** Lifecycle events: `app.realtime.events.on('online', ({ tenantId, userId }) => …)`. */
  readonly events: RealtimeEvents
  /** The host's `authenticate` and `authorize`, as the plugins call them, and decisions about users who are connected: `ban`, `revoke`, `recheck`. */
  readonly access: AccessControl
  /** Whether database and Redis can be used now, for a readiness probe. Never rejects. */
  health (): Promise<Health>
  /** The AsyncAPI 3 document of the registered plugins and the host's own events. */
  asyncapi (info?: AsyncApiInfo): AsyncApiDocument
}

declare module 'fastify' {
  interface FastifyInstance {
    realtime: Realtime
  }
}

/** The public side of the internals; `scope` is the prefix of the scope in which the host registered the core. */
export function publicFace ({ nodeId, settings, bus, frames, health }: Internals, access: AccessControl, scope: string): Omit<Realtime, keyof RealtimeParts> {
  const prefix = scope + settings.prefix
  const events: RealtimeEvents = {
    on: (event, listener) => { bus.on(event, listener) },
    once: (event, listener) => { bus.once(event, listener) },
    off: (event, listener) => { bus.off(event, listener) }
  }
  return { nodeId, prefix, events, access, health, asyncapi: (info: AsyncApiInfo = {}) => asyncapi({ ...info, events: frames.catalogue, prefix }) }
}
