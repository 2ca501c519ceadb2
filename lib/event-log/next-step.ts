import type { StoredEvent } from './contract.js'

/** Milliseconds before each further attempt for an unconfirmed event; after the last one it has failed. */
export const RETRY_DELAYS_MS = [5000, 15_000, 60_000, 60_000, 60_000] as const

/** What the sweeper does with a due event. `wait`: until its recipient connects. */
export type NextStep = 'publish' | 'retry' | 'fail' | 'wait' | 'none'

/** `isOnline`: the recipient is. `requiresConfirmation`: it is sent again until the recipient confirms it. */
export function nextStep (
  { publishedAt, retryCount }: Pick<StoredEvent, 'publishedAt' | 'retryCount'>,
  { isOnline, requiresConfirmation }: { isOnline: boolean, requiresConfirmation: boolean }
): NextStep {
  if (publishedAt === null) return 'publish'
  if (!requiresConfirmation) return 'none'
  if (!isOnline) return 'wait'
  return retryCount < RETRY_DELAYS_MS.length ? 'retry' : 'fail'
}
