import type { Test } from 'tap'
import type { Due, RosterConnection, Presence, Renewed, Roster, RosterTimes, TypingEntry } from '../../lib/roster/contract.js'
import { translating } from '../string-ids.js'
import type { TestClock } from '../suites.js'

export const times: RosterTimes = { nodeTimeout: 13_000, offlineDelay: 5000, registrationTtl: 75_000 }
/** More than a test takes by itself: before and after a deadline by this much there is one right answer. */
export const SOON = 1000
/** Due once told is due again after this time, for the case that who was to tell it died. */
export const CLAIM = 5000

/** Rosters of one cluster: two nodes, or one node twice where there can be no other. */
export interface World {
  clock: TestClock
  here: Roster
  there: Roster
}

export type OpenWorld = (t: Test) => Promise<World>

/** How many of the first arguments of a method are ids, or lists of ids. */
const IDS: Partial<Record<string, number>> = { connectionsOf: 2, setPresence: 2, presence: 2, standing: 2, usePresence: 0, dropWatches: 3, countRequest: 0, lock: 0, renew: 0, repair: 0 }

/** Rosters with string ids, for tests that say numbers. */
export const takingNumbers = <Rosters extends Record<string, Roster>>(rosters: Rosters): Rosters =>
  Object.fromEntries(Object.entries(rosters).map(([name, roster]) => [name, translating(roster, { ids: (method) => IDS[method] ?? 1 })])) as Rosters

/** What was told, as the host's events would say it: each user once where it must be once. */
export interface DueChange {
  offline: number[]
  typing: TypingEntry[]
  expiredConnections: RosterConnection[]
  /** Came back between `due` and `settle`. */
  online: number[]
}

/** One look of the sweeper: what is due is told, then settled. */
export async function sweep (roster: Roster): Promise<DueChange> {
  const told: DueChange = { offline: [], typing: [], expiredConnections: [], online: [] }
  for (const due of await roster.claimDue()) {
    collect(told, due)
    const back = await roster.confirmOffline([{ tenantId: due.tenantId, userIds: due.offline }])
    told.online.push(...back.flatMap(({ userIds }) => userIds))
  }
  return told
}

/** Both nodes look at the same time. */
export async function sweepBoth ({ here, there }: World): Promise<DueChange> {
  const told: DueChange = { offline: [], typing: [], expiredConnections: [], online: [] }
  const parts = here === there ? [await sweep(here)] : await Promise.all([sweep(here), sweep(there)])
  for (const part of parts) {
    collect(told, part)
    told.online.push(...part.online)
  }
  return told
}

function collect (told: DueChange, { offline, typing, expiredConnections }: Pick<Due, 'offline' | 'typing' | 'expiredConnections'>): void {
  told.offline.push(...offline)
  told.typing.push(...typing)
  told.expiredConnections.push(...expiredConnections)
}

/** A renewal that found nothing to tell. */
export const quiet: Renewed = { arrived: [], displaced: [] }

export const nothing: DueChange = { offline: [], typing: [], expiredConnections: [], online: [] }

/** A connection of user 7 in tenant 1, with its socket on this node, unless said otherwise. */
export const socket = (roster: Roster, connectionId: string, rest: Partial<Omit<RosterConnection, 'generation'>> = {}): Omit<RosterConnection, 'generation'> =>
  ({ tenantId: 1, userId: 7, connectionId, nodeId: roster.nodeId, device: 'web', connectedAt: 1, ...rest })

export const saying = (status: Presence['status'], rest: Partial<Presence> = {}): Presence =>
  ({ status, device: 'mobile', lastMessage: null, data: null, awaySince: null, hiddenSince: null, seenAt: 0, ...rest })

export const LIMIT = 20

/** Joins and answers what is needed to leave again. */
export async function enter (roster: Roster, connectionId: string, rest: Partial<Omit<RosterConnection, 'generation'>> = {}): Promise<RosterConnection> {
  const entry = socket(roster, connectionId, rest)
  const { generation } = await roster.join(entry, LIMIT)
  return { ...entry, generation }
}
