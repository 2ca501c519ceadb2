import type { FastifyBaseLogger } from 'fastify'
import type { Backplane } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import type { Database } from '../database/dialect.js'
import type { Ids } from '../ids.js'
import type { CoreSettings, RealtimeOptions } from '../settings.js'
import type { LifecycleBus } from '../lifecycle/events.js'
import type { Metrics } from '../metrics.js'
import { Access } from './access.js'
import { createAccessControl, type AccessControl } from './control.js'
import { FailedAuthentications } from './failed-authentications.js'
import { AccessLog } from './log.js'
import { Restrictions } from './restrictions.js'
import { AccessStore, type AccessEntry } from './store.js'

interface AccessParts { access: Access, accessControl: AccessControl, accessLog: AccessLog, restrictions: Restrictions }

/** Creates the parts of this node that authenticate, authorize, and apply the host's decisions about live connections. */
export function createAccess (
  { authenticate, authorize, authorizeMany }: RealtimeOptions,
  { settings, ids, db, backplane, aliveNodes, bus, metrics, clock, log }: {
    settings: CoreSettings, ids: Ids, db: Database, backplane: Backplane, aliveNodes: () => Promise<string[]>
    bus: LifecycleBus, metrics: Metrics, clock: Clock, log: FastifyBaseLogger
  }
): AccessParts {
  const restrictions = new Restrictions(clock)
  const accessLog = new AccessLog({
    store: new AccessStore(db, ids),
    ids,
    restrictions,
    backplane,
    aliveNodes,
    onApplied: (kind) => { metrics.decisions.set(kind, (metrics.decisions.get(kind) ?? 0) + 1) },
    onDecided: (entry) => { announce(bus, entry) },
    clock,
    log
  })
  const failures = new FailedAuthentications(settings.failedAuthPerMinute)
  const access = new Access({
    authenticate,
    authorize,
    authorizeMany,
    ids,
    concurrency: settings.authConcurrency,
    timeout: settings.hostTimeout,
    restrictions,
    onRefused: ({ tenantId, userId }, code) => {
      metrics.accessRefused.set(code, (metrics.accessRefused.get(code) ?? 0) + 1)
      bus.emit('refused', { tenantId, userId, code })
    },
    failures,
    clock,
    log
  })
  return { access, accessControl: createAccessControl(access, accessLog, ids, clock), accessLog, restrictions }
}

/** Emitted on the node that was called, so that host code gets one event per decision. */
function announce (bus: LifecycleBus, { kind, tenantId, userId, tokenId, until, reason }: AccessEntry): void {
  if (kind === 'ban' && userId !== null) bus.emit('banned', { tenantId, userId, until, reason })
  if (kind === 'revoke') bus.emit('revoked', { tenantId, userId, tokenId, until })
}
