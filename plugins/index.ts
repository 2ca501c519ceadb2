/** The public plugins and types: everything a host needs, and nothing else. */
export { realtime } from '../lib/core.js'
export type { AsyncApiInfo, Health, Realtime, RealtimeParts } from '../lib/realtime.js'
export { defaultAuthorize, type AccessControl } from '../lib/access/access.js'
export { asyncapi, type AsyncApiDocument, type AsyncApiOptions } from '../lib/wire/asyncapi.js'
export { systemClock, type Clock } from '../lib/clock.js'
export { migrate } from '../lib/database/migrator.js'
export { openDatabase, type OpenDatabase } from '../lib/database/open.js'
export { OptionError, RealtimeError, type ErrorCode } from '../lib/errors.js'
export type { Identity } from '../lib/identity.js'
export type { LifecycleEvents, RealtimeEvents } from '../lib/lifecycle/events.js'
export type { RealtimeOptions } from '../lib/settings.js'
export type { AccessRequest, Authenticate, Authorize, AuthorizeMany, ResolveUsers } from '../lib/host-functions.js'
export { CloseCode } from '../lib/wire/close-codes.js'
export type { HostTransaction } from '../lib/database/host-transaction.js'
export type { Register } from '../lib/register.js'
export {
  default as channels, defineEvents, type ChannelsApi, type ChannelsOptions, type CustomEvent, type CustomEventMap, type HostEvents,
  type ReceivedEvents, type SentEvents
} from './channels/index.js'
export { default as connections, type ConnectionsApi, type ConnectionsOptions } from './connections/index.js'
export { default as presence, type PresenceApi, type PresenceOptions } from './presence/index.js'
export { default as stats, type StatsApi, type StatsOptions } from './stats/index.js'
export { default as typing, type TypingApi, type TypingOptions } from './typing/index.js'
