import type { Device } from '../../schemas.js'
import type { RosterConnection, JoinResult, Presence } from '../contract.js'

/** The forms in which the scripts take and answer what the contract says. */

export function toEntry (tenantId: number, text: string): RosterConnection {
  const { id, u, n, g, d, c } = JSON.parse(text) as { id: string, u: string, n: string, g: string, d: Device, c: string }
  return { tenantId, userId: Number(u), connectionId: id, nodeId: n === '' ? null : n, generation: g, device: d, connectedAt: Number(c) }
}

export interface Joined extends JoinResult {
  generation: string
  /** When its socket opened, by Redis' clock. */
  openedAt: number
}

/** The answer of the join script; null: Redis lost what it had. */
export function toJoined ({ tenantId, generation }: RosterConnection, answer: unknown): Joined | null {
  const [state, fresh, first, replaced, kept, opened, ...evicted] = answer as [string, number, number, string, string, string, ...string[]]
  if (state === 'lost') return null
  if (state === 'taken') return { ownedByOther: true, isNew: false, isFirstOfUser: false, replaced: null, evicted: [], generation, openedAt: 0 }
  return {
    ownedByOther: false,
    isNew: fresh === 1,
    isFirstOfUser: first === 1,
    replaced: replaced === '' ? null : toEntry(tenantId, replaced),
    evicted: evicted.map((text) => toEntry(tenantId, text)),
    generation: kept,
    openedAt: Number(opened)
  }
}

export const encodePresence = ({ status, device, lastMessage, awaySince }: Presence): string =>
  JSON.stringify({ status, device, lastMessage, awaySince })

/** `now` stands for when the user was last heard of, where that was evicted. */
export function decodePresence (text: string | undefined, seen: string | null | undefined, now: number): Presence | null {
  if (text === undefined || text === '') return null
  return { ...JSON.parse(text) as Omit<Presence, 'seenAt'>, seenAt: Number(seen ?? '') || now }
}
