// In this order they compress best.
import { entryOf, type Core } from './state.js'
import { createOutbox } from './outbox.js'
import { createDelivery } from './delivery.js'
import { createSubscriptions } from './subscriptions.js'
import { createWatches } from './watches.js'
import { createEmitter } from './emitter.js'
import { createPoller } from './polling.js'
import { createScope } from './scope.js'
import { createConnection } from './connection.js'
import { createSession } from './session.js'
import { readOptions, type WebSocketClientOptions } from './options.js'
import { createTokens } from './tokens.js'
import { createRest } from './rest.js'

/** Connects the parts of a client. */
export function createCore (options: WebSocketClientOptions): Core {
  const settings = readOptions(options)
  const ended = createScope(settings.clock, true)
  const core = {
    ...settings,
    life: createScope(settings.clock),
    run: ended,
    user: ended,
    polled: ended,
    link: undefined,
    transport: null,
    mayRename: !options.connectionId,
    wanted: new Map(),
    seen: new Set()
  } as unknown as Core
  Object.assign(core, createEmitter(), createTokens(core), createRest(core), createOutbox(core), createDelivery(core), createSubscriptions(core), createWatches(core), createConnection(core), createPoller(core), createSession(core))
  for (const [channel, cursor] of Object.entries(core.since)) entryOf(core, channel).cursor = cursor
  return core
}
