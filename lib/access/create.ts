import type { FastifyBaseLogger } from 'fastify'
import type { Backplane } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import type { Database } from '../database/dialect.js'
import type { CoreSettings, RealtimeOptions } from '../settings.js'
import { Access } from './access.js'
import { FailedAuthentications } from './failed-authentications.js'
import { AccessLog } from './log.js'
import { Restrictions } from './restrictions.js'
import { AccessStore } from './store.js'

interface AccessParts { access: Access, accessLog: AccessLog, restrictions: Restrictions }

/** Who someone is, what they may do, and the host's decisions about live connections: one of each for a node. */
export function createAccess (
  { authenticate, authorize, authorizeMany }: RealtimeOptions,
  { settings, db, backplane, aliveNodes, clock, log }: {
    settings: CoreSettings, db: Database, backplane: Backplane, aliveNodes: () => Promise<string[]>, clock: Clock, log: FastifyBaseLogger
  }
): AccessParts {
  const restrictions = new Restrictions(clock)
  const accessLog = new AccessLog({ store: new AccessStore(db), restrictions, backplane, aliveNodes, clock, log })
  const failures = new FailedAuthentications(settings.failedAuthPerMinute)
  const access = new Access({
    authenticate, authorize, authorizeMany, concurrency: settings.authConcurrency, timeout: settings.hostTimeout, restrictions, accessLog, failures, clock, log
  })
  return { access, accessLog, restrictions }
}
