import type { Presence } from '../../lib/roster/contract.js'

const MINUTE_MS = 60_000

/** For people: `Online on desktop`, `Away for 5m`, `Busy`, `Offline`; minutes, then hours, then days. */
export function displayStatus (presence: Presence | null, now: number, { withDevice }: { withDevice: boolean }): string {
  switch (presence?.status) {
    case 'online': return withDevice ? `Online on ${presence.device}` : 'Online'
    case 'away': return `Away for ${span(now - (presence.awaySince ?? now))}`
    case 'busy': return 'Busy'
    default: return 'Offline'
  }
}

/** When the words for a status change by themselves. */
export const displayStatusValidUntil = ({ status, awaySince }: Presence, now: number): number =>
  status !== 'away' || awaySince === null ? Infinity : awaySince + (Math.max(0, Math.floor((now - awaySince) / MINUTE_MS)) + 1) * MINUTE_MS

function span (ms: number): string {
  const minutes = Math.max(0, Math.floor(ms / MINUTE_MS))
  if (minutes < 60) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours}h` : `${Math.floor(hours / 24)}d`
}
