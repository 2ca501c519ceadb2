import type { Id, Ids } from '../../ids.js'
import type { Device } from '../../schemas.js'
import type { PresenceStatus } from '../../schemas.js'
import { isShown, type JoinResult, type OnlinePage, type Presence, type RosterConnection, type Standing } from '../contract.js'
import { NOTHING_JOINED } from '../memory/users.js'
import type { FoundMode, Modes } from './modes.js'

/** Arguments and results of the scripts, as types of the contract. */

export function toConnection (ids: Ids, tenantId: Id, text: string): RosterConnection {
  const { id, u, n, g, d, c } = JSON.parse(text) as { id: string, u: string, n: string, g: string, d: Device, c: string }
  return { tenantId, userId: ids.parse(u), connectionId: id, nodeId: n === '' ? null : n, generation: g, device: d, connectedAt: Number(c) }
}

export interface Joined extends JoinResult {
  generation: string
  /** When its socket opened, by Redis' clock. */
  openedAt: number
  /** The user had set `offline`, which ended with this connection. */
  hasReturned: boolean
  /** Since when the user is invisible; null: the user is not. */
  invisibleSince: number | null
}

export const refused = (reason: 'ownedByOther' | 'isTenantFull', generation: string): Joined =>
  ({ ...NOTHING_JOINED, [reason]: true, generation, openedAt: 0, hasReturned: false, invisibleSince: null })

/** A mode as scripts return it. */
export const toMode = (everyone: string | undefined, online: string | number | undefined): FoundMode =>
  ({ everyone: everyone === '' ? null : everyone === '1', online: Number(online) })

/** The beginning of a script's standing: mode, number of visible users, status. The node learns the mode. */
export function toStanding (modes: Modes, tenantId: Id, text: string): Standing {
  const [everyone, online, status] = text.split(',')
  return { ...modes.learn(tenantId, toMode(everyone, online)), status: status as PresenceStatus }
}


/** The result of the `join` script; null if Redis lost data. */
export function toJoined (ids: Ids, modes: Modes, { tenantId, generation }: RosterConnection, result: unknown): Joined | null {
  const [outcome, isNew, isFirstOfUser, replaced, kept, openedAt, summary, presence, ...evicted] = result as [string, number, number, string, string, string, string, string, ...string[]]
  if (outcome === 'lost') return null
  if (outcome === 'taken') return refused('ownedByOther', generation)
  if (outcome === 'full') return refused('isTenantFull', generation)
  const standing = toStanding(modes, tenantId, summary)
  const [, , , hasReturned, since = ''] = summary.split(',')
  return {
    ownedByOther: false,
    isTenantFull: false,
    isNew: isNew === 1,
    isFirstOfUser: isFirstOfUser === 1,
    hasAppeared: hasReturned === '1' || (isFirstOfUser === 1 && isShown(standing.status)),
    hasReturned: hasReturned === '1',
    invisibleSince: since === '' ? null : Number(since),
    standing,
    presence: decodePresence(presence, openedAt, 0),
    replaced: replaced === '' ? null : toConnection(ids, tenantId, replaced),
    evicted: evicted.map((text) => toConnection(ids, tenantId, text)),
    generation: kept,
    openedAt: Number(openedAt)
  }
}

export const encodePresence = ({ status, device, lastMessage, data, awaySince, hiddenSince }: Presence): string =>
  // The status first: scripts read it there.
  JSON.stringify({ status, device, lastMessage, data, awaySince, hiddenSince })

/** `now` is used as the last activity if Redis evicted that. */
export function decodePresence (text: string | undefined, seenAt: string | null | undefined, now: number): Presence | null {
  if (text === undefined || text === '') return null
  return { ...JSON.parse(text) as Omit<Presence, 'seenAt'>, seenAt: Number(seenAt ?? '') || now }
}

/** The result of the `online` script, which returns one user more than `limit` if there are more. */
export function toOnlinePage (ids: Ids, [total, ...rows]: [number, ...string[]], limit: number, now: number): OnlinePage {
  const users: OnlinePage['users'] = []
  for (let i = 0; i + 2 < rows.length; i += 3) {
    const presence = decodePresence(rows[i + 1], rows[i + 2], now)
    if (presence !== null) users.push({ userId: ids.parse(rows[i] ?? ''), presence })
  }
  const page = users.slice(0, limit)
  return { users: page, total, next: users.length > limit ? page.at(-1)?.userId ?? null : null }
}
