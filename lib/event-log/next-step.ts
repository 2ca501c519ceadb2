import type { StoredEvent } from './contract.js'

/** Milliseconds before each further attempt for an unconfirmed event; after the last one it has failed. */
export const RETRY_DELAYS_MS = [5000, 15_000, 60_000, 60_000, 60_000] as const
/** An unconfirmed event that is older than this has failed. */
export const MAX_PENDING_AGE_MS = 7 * 24 * 3600_000

/** Why it failed. */
export const TOO_OLD = 'not confirmed within 7 days'

/** The sweeper's next step for a due event. `wait`: until its recipient connects. `early`: it was sent less than the first delay ago. */
export type NextStep = 'publish' | 'retry' | 'early' | 'fail' | 'expire' | 'wait' | 'none'

/** `isOnline`: the recipient is. `requiresConfirmation`: it is sent again until the recipient confirms it. `age` in milliseconds. */
export function nextStep (
  { publishedAt, retryCount }: Pick<StoredEvent, 'publishedAt' | 'retryCount'>,
  { isOnline, requiresConfirmation, age }: { isOnline: boolean, requiresConfirmation: boolean, age: number }
): NextStep {
  if (publishedAt === null) return 'publish'
  if (!requiresConfirmation) return 'none'
  if (age > MAX_PENDING_AGE_MS) return 'expire'
  if (!isOnline) return 'wait'
  if (retryCount === 0 && age < RETRY_DELAYS_MS[0]) return 'early'
  return retryCount < RETRY_DELAYS_MS.length ? 'retry' : 'fail'
}
