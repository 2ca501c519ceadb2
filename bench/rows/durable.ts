import { setTimeout as sleep } from 'node:timers/promises'
import { realtime, tokenOf, type Dialect } from '../dialects.js'
import { median } from '../median.js'
import { frameOf, RawClient } from '../raw-client.js'
import { JWT_SECRET, startPeer } from '../servers.js'

/** Fastify and ws, one INSERT per message. */
export const oneRowEach: Dialect = {
  ...realtime,
  name: 'one-row-each',
  start: async (env) => await startPeer('one-row-each', { JWT_SECRET, ...env }),
  open: async (port, user) => {
    const client = await RawClient.open(port, '/', { headers: { authorization: `Bearer ${tokenOf(user)}` } })
    await client.next((text) => text === 'j')
    return client
  }
}

export const ACK = Buffer.from('{"event":"ack"')
const DIRECT = /^{"event":"message:direct","data":{"messageId":(\d+)/
const PAIRS_PER_CLUB = 25
/** Milliseconds until the code is compiled. */
const WARM_UP = 1500

export interface Pairs {
  pairs: number
  seconds: number
  /** The receivers say that they have each message, as fastify-realtime's own client does. */
  confirmed?: boolean
}

/**
 * Acked messages a second of `pairs` senders, each with one message under way, to as many receivers; and the microseconds of
 * the server's processor time for each of them, without the database.
 */
export async function directMessages (
  dialect: Dialect, { pairs, seconds, confirmed = false }: Pairs, env: Record<string, string>
): Promise<{ perSecond: number, cpu: number }> {
  const server = await dialect.start(env)
  const clients: RawClient[] = []
  try {
    let acked = 0
    const senders: Array<() => void> = []
    for (let i = 0; i < pairs; i++) {
      const club = 1 + Math.floor(i / PAIRS_PER_CLUB)
      const [sender, receiver] = await Promise.all([
        dialect.open(server.port, { id: 1 + 2 * i, club }), dialect.open(server.port, { id: 2 + 2 * i, club })
      ])
      clients.push(sender, receiver)
      const frame = direct(dialect.idOf?.(2 + 2 * i) ?? 2 + 2 * i)
      sender.onFrame = (payload) => {
        if (payload.compare(ACK, 0, ACK.length, 0, ACK.length) !== 0) return
        acked++
        sender.send(frame)
      }
      if (confirmed) {
        receiver.onFrame = (payload) => {
          const messageId = DIRECT.exec(payload.toString('latin1', 0, 80))?.[1]
          if (messageId !== undefined) receiver.send(frameOf(`{"event":"message:delivered","data":{"messageId":${messageId}}}`))
        }
      }
      senders.push(() => { sender.send(frame) })
    }
    await sleep(500)
    for (const send of senders) send()
    await sleep(WARM_UP)
    const [from, cpuBefore] = [acked, server.cpu()]
    await sleep(seconds * 1000)
    const count = acked - from
    return { perSecond: count / seconds, cpu: (server.cpu() - cpuBefore) / count }
  } finally {
    for (const client of clients) client.close()
    await server.stop()
  }
}

/** Milliseconds from a message to its ack, the median, with one message under way in all. */
export async function loneMessage (dialect: Dialect, { seconds }: { seconds: number }, env: Record<string, string>): Promise<number> {
  const server = await dialect.start(env)
  try {
    const [sender, receiver] = await Promise.all([dialect.open(server.port, { id: 1, club: 1 }), dialect.open(server.port, { id: 2, club: 1 })])
    const frame = direct(dialect.idOf?.(2) ?? 2)
    await sleep(500)
    const took: number[] = []
    const from = performance.now() + WARM_UP
    for (let began = performance.now(); began < from + seconds * 1000; began = performance.now()) {
      sender.send(frame)
      await sender.next((text) => text.startsWith('{"event":"ack"'))
      if (began >= from) took.push(performance.now() - began)
    }
    sender.close()
    receiver.close()
    return median(took)
  } finally {
    await server.stop()
  }
}

/** A direct message of 128 bytes. */
export const direct = (recipientId: number | string): Buffer => frameOf(JSON.stringify({
  event: 'message:direct', id: 1, data: { recipientId, message: 'x'.repeat(128), conversationId: 'bench' }
}))
