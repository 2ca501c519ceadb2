import { OptionError } from './errors.js'

/** The options of each plugin, so that the error for an option passed to the wrong plugin can name the right one. */
export const optionsOf = {
  core: ['database', 'redis', 'authenticate', 'authorize', 'authorizeMany', 'resolveUsers', 'prefix', 'keyPrefix', 'ids', 'migrate', 'requestsPerMinute', 'presenceLease',
    'presenceGrace', 'restLease', 'storageTimeout', 'maxQueuedEvents', 'authConcurrency', 'userCacheTime', 'statsInterval', 'retentionDays',
    'maintenance', 'secret', 'hostTimeout', 'failedAuthPerMinute', 'tenantLimits', 'audit', 'clock'],
  connections: ['pingInterval', 'authDeadline', 'maxConnectionsPerUser', 'framesPerSecond', 'frameBurst', 'maxFrameSize', 'maxBuffered',
    'allowedOrigins', 'closeDeadline', 'drainSeconds', 'drainGrace', 'perMessageDeflate', 'maxPerAddress', 'maxPendingPerAddress',
    'limitPrivateAddresses', 'connectRate', 'maxSockets', 'maxLag'],
  presence: ['updatesPerMinute', 'everyone', 'maxWatched', 'visible'],
  typing: ['signsPerMinute', 'expiry', 'participants'],
  channels: ['maxChannelsPerConnection', 'events', 'beforePublish', 'messagesPerMinute', 'recipientsPerMinute', 'maxPending', 'members', 'retention',
    'waitingAfter'],
  conversations: ['editWindow', 'receiptsUpTo', 'activityUpTo', 'moderate'],
  stats: ['metrics']
} as const

/** Options that Fastify itself reads from any plugin. */
const OF_FASTIFY = ['logLevel', 'logSerializers']

/** The owner of options, as errors name it; `path` is set for options nested in another option. */
export interface OptionOwner { of: string, path?: string }

/** Throws an {@link OptionError} for the first option that is not one of the `known` ones, with the option that was probably meant. */
export function requireKnown (options: object, known: readonly string[], { of, path = '' }: OptionOwner): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || known.includes(name) || (path === '' && OF_FASTIFY.includes(name))) continue
    throw new OptionError(path + name, problemOf(name, known, of, path === ''))
  }
}

function problemOf (name: string, known: readonly string[], of: string, top: boolean): string {
  const owner = top ? Object.entries(optionsOf).find(([, names]) => (names as readonly string[]).includes(name))?.[0] : undefined
  if (owner !== undefined) return `belongs to ${titleOf(owner)}, not to ${titleOf(of)}`
  const nearest = nearestOf(name, known)
  if (nearest !== null) return `does not exist in ${titleOf(of)}: did you mean "${nearest}"?`
  return `does not exist in ${titleOf(of)}, which has ${known.join(', ')}`
}

const titleOf = (owner: string): string => owner === 'core' ? 'the core' : owner in optionsOf ? `the ${owner} plugin` : owner

/** The most similar of these names; null if none is similar. */
function nearestOf (name: string, known: readonly string[]): string | null {
  const [best] = known.map((candidate) => ({ candidate, distance: distanceBetween(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  return best !== undefined && best.distance <= Math.max(2, Math.floor(name.length / 3)) ? best.candidate : null
}

/** The number of letters to insert, remove or replace to turn one text into the other. */
function distanceBetween (a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min((next[j - 1] ?? 0) + 1, (row[j] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
