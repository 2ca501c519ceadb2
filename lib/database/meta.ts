import { randomBytes } from 'node:crypto'
import { systemClock } from '../clock.js'
import { isIdKind, type IdKind } from '../ids.js'
import type { Database } from './dialect.js'

/** Facts about one database, kept with its tables (migrations/003-meta.ts, 005-ids.ts). */
export interface DatabaseMeta {
  /** Random name of this database: part of every Redis key and topic. */
  identity: string
  /** Name of the event log's history, part of every cursor; replaced when the log went back. */
  epoch: string
  /** The ids of its tenants and users. */
  ids: IdKind
}

/** Reads the facts of this database. Rejects while the tables are missing. */
export async function readMeta (db: Database): Promise<DatabaseMeta> {
  const rows = await db.selectFrom('websocket_meta').selectAll().execute()
  const valueOf = (name: keyof DatabaseMeta): string => {
    const row = rows.find((row) => row.name === name)
    if (row === undefined) throw new Error(`websocket_meta has no row named ${name}: run npx fastify-realtime migrate`)
    return row.value
  }
  const ids = valueOf('ids')
  if (!isIdKind(ids)) throw new Error(`websocket_meta has the ids ${ids}, which this version does not support`)
  return { identity: valueOf('identity'), epoch: valueOf('epoch'), ids }
}

/** A random name for a database. */
export const drawIdentity = (): string => randomBytes(9).toString('base64url')

/** Nine characters of time, then random ones. The first epoch, drawn by the migration, has no time. */
const DRAWN = /^([0-9a-z]{9})-[A-Za-z0-9_-]{8}$/
const timeOf = (epoch: string): number => parseInt(DRAWN.exec(epoch)?.[1] ?? '0', 36)

/**
 * Epochs are ordered by the time in them: a restored database brings back an epoch that was replaced before, and that
 * must not look like one that another node just began. The migration's first epoch is earlier than all others.
 */
export const isLaterEpoch = (epoch: string, than: string): boolean => timeOf(epoch) > timeOf(than)

/** True for the epoch that the migration drew: the log has never gone back. */
export const isFirstEpoch = (epoch: string): boolean => timeOf(epoch) === 0

/** A new epoch, later than the `known` ones, even if clocks of other nodes were ahead. */
export function drawEpoch (known: readonly string[], now = systemClock.now()): string {
  const time = Math.max(now, ...known.map((epoch) => timeOf(epoch) + 1))
  return `${time.toString(36).padStart(9, '0')}-${randomBytes(6).toString('base64url')}`
}
