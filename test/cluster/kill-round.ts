import { setTimeout as sleep } from 'node:timers/promises'
import { check, type Findings } from './check.js'
import type { Cluster, Node } from './cluster.js'
import { Load } from './load.js'

export interface KillRound {
  /** A tenant of its own for each round. */
  clubId: number
  /** Milliseconds of load before, between and after the two kills. */
  before: number
  between: number
  after: number
  pause?: number
  retrying?: number
}

/** kill -9 of the node of all senders, then of the node of all receivers, under load; `spare` is where they meet again. */
export async function killRound (
  cluster: Cluster, [sending, receiving, spare]: readonly [Node, Node, Node], { before, between, after, ...options }: KillRound
): Promise<Findings> {
  let alive = [sending, receiving, spare]
  const load = await Load.start({ senders: [sending], receivers: [receiving], nodes: () => alive, ...options })
  try {
    for (const [victim, pause] of [[sending, before], [receiving, between]] as const) {
      await sleep(pause)
      alive = alive.filter((node) => node !== victim)
      await victim.kill()
    }
    await sleep(after)
    await load.stopSending()
    return await check(cluster, load)
  } finally {
    await load.close()
  }
}
