import { realtime } from '../dialects.js'
import { frameOf, type RawClient } from '../raw-client.js'

/** Messages that each member missed. */
const MISSED = 20

/**
 * Milliseconds until all members of some rooms, who ask at once for what came while they were away, are answered: a node
 * came back, or a network did.
 */
export async function resume ({ members, rooms }: { members: number, rooms: number }, env: Record<string, string>): Promise<number> {
  const server = await realtime.start(env)
  const clients: RawClient[] = []
  try {
    const publisher = await realtime.open(server.port, { id: 100_000, club: 1 })
    clients.push(publisher)
    const firstOf: number[] = []
    for (let i = 0; i < rooms * MISSED; i++) {
      publisher.send(frame('message:group', i, { channel: roomOf(i, rooms), message: 'x'.repeat(128), conversationId: 'bench' }))
      const { messageId } = JSON.parse(await publisher.next((text) => isAck(text, i))).data as { messageId: number }
      firstOf[i % rooms] ??= messageId
    }
    for (let at = 0; at < members; at += 50) {
      clients.push(...await Promise.all(Array.from({ length: 50 }, async (_, i) => await realtime.open(server.port, { id: 1 + at + i, club: 1 }))))
    }
    const took: number[] = []
    // Until the code is compiled.
    for (let round = 0; round < 3; round++) {
      const began = performance.now()
      await Promise.all(clients.slice(1).map(async (client, i) => {
        client.send(frame('subscribe', round, { channel: roomOf(i, rooms), since: (firstOf[i % rooms] ?? 0) - 1 }))
        await client.next((text) => isAck(text, round))
      }))
      took.push(performance.now() - began)
    }
    return took.at(-1) ?? NaN
  } finally {
    for (const client of clients) client.close()
    await server.stop()
  }
}

const roomOf = (i: number, rooms: number): string => `group.room${i % rooms}`
const frame = (event: string, id: number, data: object): Buffer => frameOf(JSON.stringify({ event, id, data }))
const isAck = (text: string, id: number): boolean => text.startsWith(`{"event":"ack","id":${id},`)
