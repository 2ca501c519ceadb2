import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { requireClose, requireConnectionId, requireId } from '../../lib/wire/host-arguments.js'
import { Admission } from './admission.js'
import { Arrivals } from './arrivals.js'
import { Connections } from './connections.js'
import { closeRefused } from './decisions.js'
import { dispatchTo, upgradeSource } from './dispatch.js'
import { FramePipeline } from './frame-pipeline.js'
import { frames } from './frames.js'
import { Inspection, type ConnectionDescription } from './inspection.js'
import { readConnectionSettings, type ConnectionSettings } from './options.js'
import { readOrigins } from './origin.js'
import { Places } from './places.js'
import { routes } from './routes.js'
import { socketRoute } from './socket-route.js'
import { connectionPurge, ConnectionStore } from './store.js'
import { streamRoute } from './stream-route.js'
import { Streams } from './streams.js'
import { Supervisor } from './supervisor.js'
import { Upgrades } from './upgrades.js'
import { Uplink } from './uplink.js'

/** Pongs that may wait to be written, besides those of a burst within the rate. */
const MAX_AUTO_PONGS = 1000
/** Milliseconds of `closeDeadline` that are reserved for the event log, the history and the roster, which close after the sockets. */
const TIME_TO_FLUSH_MS = 500

export type { ConnectionDescription } from './inspection.js'

/** Options of the connections plugin; every one has a default. */
export type ConnectionsOptions = Partial<ConnectionSettings>

/** `fastify.realtime.connections` */
export interface ConnectionsApi {
  /** Sockets on this node. */
  readonly size: number
  /** Closes one connection on any node, with 4000 unless another code is given. False if no node has it. */
  close (tenantId: Id, connectionId: string, code?: CloseCode, reason?: string): Promise<boolean>
  /** Closes every connection of a user, and resolves to their number. Clients may reconnect; `access.ban` prevents that. */
  closeUser (tenantId: Id, userId: Id, code?: CloseCode, reason?: string): Promise<number>
  /** Every connection of a user, on all nodes, the oldest first: for support staff. Resolves within 2 s. */
  of (tenantId: Id, userId: Id): Promise<ConnectionDescription[]>
}

declare module '../../lib/realtime.js' {
  interface RealtimeParts {
    connections: ConnectionsApi
  }
}

async function connectionsPlugin (fastify: FastifyInstance, options: ConnectionsOptions): Promise<void> {
  const internals = internalsFor(fastify, 'connections')
  const settings = readConnectionSettings(options)
  const origins = readOrigins(settings.allowedOrigins)
  const store = new ConnectionStore(internals.database, internals.nodeId, internals.clock, fastify.log)
  const connections = new Connections(internals, settings, store, fastify.log)
  const inspection = new Inspection(internals, store)
  const supervisor = new Supervisor(settings, internals.clock, fastify.log)
  const places = new Places(new Admission(settings, fastify.log), internals)
  const arrivals = new Arrivals({ maxLag: settings.maxLag, isBehind: () => internals.eventLog.isBehind })
  const pipeline = new FramePipeline(internals, connections, frames(internals, connections), fastify.log)

  internals.purges.push(connectionPurge(internals.database.slow, internals.clock))
  internals.eventLog.fitReaders(settings.maxBuffered)
  internals.access.failures.limitPrivateAddresses = settings.limitPrivateAddresses
  internals.metrics.sockets = () => supervisor.size
  fastify.realtime.connections = {
    get size () { return supervisor.size },
    close: async (tenantId, connectionId, code = CloseCode.disconnected, reason = 'closed by the host') => {
      requireId(internals.ids, tenantId, 'tenantId')
      requireConnectionId(connectionId, 'connectionId')
      requireClose(code, reason)
      return await connections.close(tenantId, connectionId, code, reason)
    },
    closeUser: async (tenantId, userId, code = CloseCode.disconnected, reason = 'closed by the host') => {
      requireId(internals.ids, tenantId, 'tenantId')
      requireId(internals.ids, userId, 'userId')
      requireClose(code, reason)
      return await connections.closeUser(tenantId, userId, code, reason)
    },
    of: async (tenantId, userId) => {
      requireId(internals.ids, tenantId, 'tenantId')
      requireId(internals.ids, userId, 'userId')
      return await inspection.of(tenantId, userId)
    }
  }

  closeRefused(internals, async (tenantId, userId) => await connections.endRegistered(tenantId, userId))
  // If the host registered @fastify/websocket for its own routes, that server is used.
  const ownServer = !fastify.hasDecorator('websocketServer')
  const source = upgradeSource()
  if (ownServer) {
    // A variable of its own, because the types of ws lack some options.
    const serverOptions = {
      server: source,
      maxPayload: settings.maxFrameSize,
      // Pings count as frames, so that the client learns of its limit before ws closes the socket.
      maxPendingAutoPongs: settings.frameBurst + MAX_AUTO_PONGS,
      perMessageDeflate: settings.perMessageDeflate,
      handleProtocols: (offered: Set<string>): string | false => offered.has('bearer') ? 'bearer' : false
    }
    await fastify.register(websocket, {
      options: serverOptions,
      // A frame that breaks the protocol is the client's fault; ws has closed the socket with the fitting code.
      errorHandler: (error, _socket, request) => { request.log.debug({ err: error }, 'Socket error') }
    })
  }
  const upgrades = new Upgrades()
  upgrades.watch(fastify, ownServer ? dispatchTo(source, fastify) : null)
  await restScope(fastify, internals, (scope) => { routes(scope, internals, connections, new Uplink(internals, pipeline, settings.framesPerSecond)) })
  const streams = new Streams({ internals, settings, connections, supervisor, store })
  await streamRoute(fastify, { internals, origins, streams, supervisor, places, arrivals })
  await socketRoute(fastify, { internals, settings, origins, connections, pipeline, supervisor, places, arrivals, ownServer })

  fastify.addHook('onReady', async () => { supervisor.start(internals.hub, internals.settings.statsInterval) })
  fastify.addHook('preClose', async () => {
    const deadline = performance.now() + settings.closeDeadline - TIME_TO_FLUSH_MS
    upgrades.end(fastify, deadline)
    const drained = supervisor.drain(deadline)
    arrivals.end()
    await drained
    // Before the other plugins close: they handle the events of closed connections.
    await connections.whenCleanedUp()
  })
  fastify.addHook('onClose', async () => { upgrades.stop() })
  internals.onBeforeClose(async () => { await store.close() })
}

export default fp(connectionsPlugin, { name: 'realtime-connections', fastify: '5.x' })
