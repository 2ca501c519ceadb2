import type { Cluster } from './cluster.js'
import { GROUP, type Load, type Receiver, type Sent } from './load.js'
import { until } from './until.js'

export interface Findings {
  /** One line for each promise that was broken; empty: all were kept. */
  problems: string[]
  acked: number
  refused: number
  unknown: number
  stored: number
  /** Ids that a receiver got again. */
  repeats: number
  /** Milliseconds until everything had arrived. */
  arrivedAfter: number
}

/** Of one kind of problem; the rest is counted. */
const SHOWN = 5

interface Stored { id: number, channel: string, text: string }

/**
 * Holds the load against the table: every acked event stands there once, whatever stands there reached each of its
 * receivers, and one sender's events on one channel came in the order sent. Ids in `lostByDatabase` may be missing from the
 * table.
 */
export async function check (
  cluster: Pick<Cluster, 'rows'>, load: Load, { within = 20_000, lostByDatabase = new Set() }: { within?: number, lostByDatabase?: ReadonlySet<number> | undefined } = {}
): Promise<Findings> {
  const problems: string[] = []
  const began = Date.now()
  const stored = await readTable(cluster, load)
  const missing = (): Array<{ row: Stored, receiver: Receiver }> => stored.flatMap((row) =>
    receiversOf(row, load).filter((receiver) => !receiver.has(row.id)).map((receiver) => ({ row, receiver })))
  await until('everything arrives', within, () => missing().length === 0).catch(() => {})
  const arrivedAfter = Date.now() - began

  const byText = new Map<string, Stored[]>()
  for (const row of stored) byText.set(row.text, [...byText.get(row.text) ?? [], row])
  const sentByText = new Map(load.sent.map((sent) => [sent.text, sent]))
  for (const sent of load.acked) {
    const rows = byText.get(sent.text) ?? []
    if (!rows.some(({ id }) => id === sent.messageId) && !lostByDatabase.has(sent.messageId)) problems.push(`acked and not stored: ${name(sent)} as ${sent.messageId}`)
  }
  // A sender that continues without trying again was refused once and for all.
  for (const sent of load.sent) {
    if (sent.outcome === 'refused' && sent.none && byText.has(sent.text)) problems.push(`refused as not stored, and stored: ${name(sent)}`)
  }
  for (const [text, rows] of byText) {
    if (rows.length > 1) problems.push(`stored ${rows.length} times: ${text} as ${rows.map(({ id }) => id).join(', ')}`)
  }
  const lost = new Map<Stored, string[]>()
  for (const { row, receiver } of missing()) lost.set(row, [...lost.get(row) ?? [], String(receiver.who.userId)])
  if (lost.size > SHOWN) problems.push(`… ${lost.size - SHOWN} more not delivered`)
  for (const [row, users] of [...lost].slice(0, SHOWN)) {
    const sent = sentByText.get(row.text)
    problems.push(`${sent?.outcome ?? 'never sent'} and not delivered: ${row.text} as ${row.id} on ${row.channel} to ${users.join(', ')}`)
  }
  const known = new Map(stored.map((row) => [row.id, row]))
  const disordered = new Map<string, number[]>()
  for (const receiver of load.receivers) {
    for (const line of disorder(receiver, known, sentByText, lostByDatabase)) disordered.set(line, [...disordered.get(line) ?? [], receiver.who.userId])
  }
  for (const [line, users] of [...disordered].slice(0, SHOWN)) problems.push(`${line} at ${users.join(', ')}`)
  if (disordered.size > SHOWN) problems.push(`… ${disordered.size - SHOWN} more out of order`)

  const count = (outcome: Sent['outcome']): number => load.sent.filter((sent) => sent.outcome === outcome).length
  return {
    problems,
    acked: count('acked'),
    refused: load.refusals.length,
    unknown: count('unknown'),
    stored: stored.length,
    repeats: load.receivers.reduce((sum, { repeats }) => sum + repeats, 0),
    arrivedAfter
  }
}

async function readTable (cluster: Pick<Cluster, 'rows'>, load: Load): Promise<Stored[]> {
  const rows = await cluster.rows(
    'select id, channel, cast(payload as char) as payload from websocket_events where tenant_id = ? and durable = 1 order by id', [load.clubId])
  return rows.map(({ id, channel, payload }) =>
    ({ id: Number(id), channel: channel as string, text: (JSON.parse(payload as string) as { message: string }).message }))
}

const receiversOf = ({ channel }: Stored, { receivers }: Load): Receiver[] =>
  receivers.filter((receiver) => channel === GROUP || channel === receiver.own)

function disorder (
  receiver: Receiver, known: ReadonlyMap<number, Stored>, sentByText: ReadonlyMap<string, Sent>, lostByDatabase: ReadonlySet<number>
): string[] {
  const last = new Map<string, { sent: Sent, id: number }>()
  const problems: string[] = []
  for (const id of receiver.ids) {
    const row = known.get(id)
    const sent = row === undefined ? undefined : sentByText.get(row.text)
    if (row === undefined || sent === undefined) {
      if (!lostByDatabase.has(id)) problems.push(`delivered and not stored: ${id}`)
      continue
    }
    const key = `${sent.sender} ${row.channel}`
    const before = last.get(key)
    // One that was never answered has no promise: its sender went on without knowing.
    if (before !== undefined && before.sent.n > sent.n && sent.outcome === 'acked') {
      problems.push(`out of order: ${name(sent)} as ${id} after ${name(before.sent)} as ${before.id}`)
    } else last.set(key, { sent, id })
  }
  return problems
}

const name = ({ text, outcome }: Sent): string => `${text} (${outcome})`
