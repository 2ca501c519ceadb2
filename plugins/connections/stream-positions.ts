import type { FastifyRequest } from 'fastify'
import { PRESENCE_CHANNEL, privateChannel } from '../../lib/channel-names.js'
import type { Joining } from '../../lib/delivery/joining.js'
import type { MergedChannel } from '../../lib/delivery/merged-replay.js'
import type { PageSource } from '../../lib/delivery/replayer.js'
import { errorData, RealtimeError } from '../../lib/errors.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey, type ChannelKey } from '../../lib/keys.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import type { Connection } from './connection.js'
import type { StreamQuery } from './schemas.js'

/** Where the channels of a stream begin: at their heads, or at its cursor. */

/** A channel of a new stream: subscribed, or refused. */
export type Outcome =
  | { channel: string, joining: Joining, members: object | null, begun: () => void }
  | { channel: string, error: RealtimeError }

type Subscribed = Extract<Outcome, { joining: Joining }>

interface Cursor { epoch: string, id: number }

const CURSOR = /^([A-Za-z0-9_-]{1,32})\.(\d{1,15})$/

/**
 * The cursor with which a stream resumes; undefined: it is new; null: the cursor is invalid. `EventSource` repeats its URL when
 * it reconnects, so the header is newer than the query.
 */
export function cursorOf ({ headers }: FastifyRequest, { cursor }: StreamQuery): Cursor | null | undefined {
  const header = headers['last-event-id']
  const text = typeof header === 'string' && header !== '' ? header : cursor
  if (text === undefined || text === '') return undefined
  const [, epoch, id] = CURSOR.exec(text) ?? []
  return epoch === undefined || id === undefined ? null : { epoch, id: Number(id) }
}

/** The reply for each channel, and a function that starts the delivery of events. `joined`: the channels that every connection has. */
export async function positionsOf (
  { eventLog, waiting }: Internals, connection: Connection, joined: ReadonlyMap<string, Joining>, outcomes: readonly Outcome[], cursor: Cursor | null | undefined
): Promise<{ answers: Buffer[], live: () => void }> {
  const { tenantId, userId } = connection.identity
  const own = privateChannel(userId)
  const answers: Buffer[] = []
  const subscribed: Array<Subscribed & { isAsked: boolean }> = []
  for (const outcome of outcomes) {
    // The host may have removed the connection from the channel meanwhile.
    const error = 'error' in outcome ? outcome.error : outcome.joining.isOver ? new RealtimeError('RT_FORBIDDEN') : null
    if (error !== null) answers.push(encodeFrame('error', { channel: outcome.channel, ...errorData(error) }))
    else if ('joining' in outcome) subscribed.push({ ...outcome, isAsked: true })
  }
  const names = new Set(outcomes.map(({ channel }) => channel))
  for (const [channel, joining] of joined) if (!names.has(channel)) subscribed.push({ channel, joining, members: null, begun: () => {}, isAsked: false })

  const { replays, epoch } = eventLog
  const keyOf = ({ channel }: { channel: string }): ChannelKey => channelKey(tenantId, channel)
  const answer = ({ channel, members }: Subscribed, start: { position: number, recovered?: boolean }): void => {
    answers.push(encodeFrame('subscribed', { channel, ...start, ...members, epoch: epoch.current }))
  }
  const first = ({ channel }: Subscribed): { first?: PageSource } => channel === own && waiting !== null ? { first: waiting(connection) } : {}
  if (cursor === undefined) {
    const asked = subscribed.filter(({ isAsked }) => isAsked)
    const positions = await Promise.all(asked.map(async (one) => await replays.position(keyOf(one))))
    asked.forEach((one, i) => { answer(one, { position: positions[i] ?? 0 }) })
    return { answers, live: () => { for (const one of subscribed) beginAlone(connection, one, first(one)) } }
  }
  // Changes of presence are not in the log.
  const resumed = subscribed.filter(({ channel, isAsked }) => isAsked || channel !== PRESENCE_CHANNEL)
  const { since, starts } = await replays.resume(resumed.map(keyOf), cursor)
  const isAnyBehind = starts.some(({ isBehind }) => isBehind)
  const together: MergedChannel[] = []
  const alone = subscribed.filter((one) => !resumed.includes(one))
  resumed.forEach((one, i) => {
    const { position = 0, recovered = false, isBehind = false, late = [] } = starts[i] ?? {}
    answer(one, { position, recovered })
    // Unconfirmed events of the user are replayed in the same order.
    if (!isBehind && !(isAnyBehind && recovered && one.channel === own)) return alone.push(one)
    one.begun()
    together.push({ joining: one.joining, late, ...first(one) })
  })
  return {
    answers,
    live: () => {
      for (const one of alone) beginAlone(connection, one, first(one))
      if (together.length > 0) connection.beginTogether(together, since)
    }
  }
}

function beginAlone (connection: Connection, { joining, begun }: Subscribed, options: { first?: PageSource }): void {
  begun()
  connection.begin(joining, options)
}
