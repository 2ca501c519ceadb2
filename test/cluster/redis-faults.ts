import type { Test } from 'tap'
import { check } from './check.js'
import { healthOf, type Cluster } from './cluster.js'
import type { Load } from './load.js'
import type { Link, Proxy } from './proxy.js'
import { until } from './until.js'

/** Within so many milliseconds a node says that it is not healthy, and is healthy again once the cause is gone. */
export const NOTICED = 6000
export const HEALED = 10_000

/** Asks a node for its health all the time. */
export class HealthWatch {
  readonly #changes: Array<{ at: number, ok: boolean }> = []
  #ended = false

  constructor (t: Test, node: { url: string }) {
    t.teardown(() => { this.#ended = true })
    void this.#run(node)
  }

  /** Times that the node was not healthy so far. */
  get alarms (): number {
    return this.#changes.filter(({ ok }) => !ok).length
  }

  /** Milliseconds from `since` (of Date.now) to the first time after it that the health was so. */
  async turned (ok: boolean, since: number, within: number): Promise<number> {
    const change = await until(ok ? 'it is healthy again' : 'it says that it is not healthy', within, () =>
      this.#changes.find((change) => change.ok === ok && change.at >= since))
    return change.at - since
  }

  /** As it is now. */
  get ok (): boolean {
    return this.#changes.at(-1)?.ok ?? false
  }

  async #run (node: { url: string }): Promise<void> {
    while (!this.#ended) {
      const ok = await healthOf(node).then((status) => status === 200, () => false)
      if (ok !== this.#changes.at(-1)?.ok) this.#changes.push({ at: Date.now(), ok })
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
}

interface Fault {
  name: string
  cluster: Pick<Cluster, 'rows'>
  /** Nodes that must notice. */
  nodes: ReadonlyArray<{ url: string }>
  load: Load
  begin: () => void | Promise<void>
  /** While it lasts, all nodes having noticed. */
  meanwhile?: () => Promise<void>
  /** Ends the cause; absent where it ends by itself as soon as it is noticed. */
  end?: () => void | Promise<void>
}

/**
 * Brings a fault about under load and holds the nodes to their promises: they notice, they heal within ten seconds of its
 * end, no socket is closed, and every acked event is stored and delivered. Tells what was measured.
 */
export async function suffer (t: Test, { name, cluster, nodes, load, begin, meanwhile, end }: Fault): Promise<void> {
  const watches = nodes.map((node) => new HealthWatch(t, node))
  await until('all are healthy', 10_000, () => watches.every(({ ok }) => ok))
  await until('messages flow', 10_000, () => load.acked.length > 50)
  t.equal(watches.reduce((sum, { alarms }) => sum + alarms, 0), 0, 'no alarm before')

  const began = Date.now()
  await begin()
  const noticed = Math.max(...await Promise.all(watches.map(async (watch) => await watch.turned(false, began, NOTICED))))
  await meanwhile?.()
  const ended = end === undefined ? began + noticed : Date.now()
  await end?.()
  const healed = Math.max(...await Promise.all(watches.map(async (watch) => await watch.turned(true, ended, HEALED + 20_000))))
  t.ok(healed <= HEALED, `healthy again within ${HEALED} ms of the end: ${healed}`)

  const before = load.acked.length
  await until('messages flow again', 10_000, () => load.acked.length > before + 50)
  await load.stopSending()
  const { problems, acked, unknown, arrivedAfter } = await check(cluster, load, { within: 30_000 })
  const toldTwice = load.receivers.reduce((sum, receiver) => sum + receiver.toldTwice, 0)
  t.comment(`${name}: ${JSON.stringify({ noticed, healed, acked, unanswered: unknown, lost: problems.length, toldTwice, arrivedAfter })}`)
  t.strictSame(problems, [], 'what was acked is stored and delivered, once and in order')
  t.strictSame(load.closeCodes, [], 'no socket was closed')
}

/** The two connections that a node has through its proxy to Redis: found as they are used. */
export function redisLinksOf (proxy: Proxy): { commands: () => Link, subscriber: () => Link } {
  const found: { commands?: Link, subscriber?: Link } = {}
  proxy.inspect = (bytes, link) => {
    const text = bytes.toString('latin1').toLowerCase()
    if (/\r\n(eval|evalsha)\r\n/.test(text)) found.commands = link
    else if (/\r\nsubscribe\r\n/.test(text)) found.subscriber = link
    return true
  }
  const known = (role: keyof typeof found) => (): Link => {
    const link = found[role]
    if (link === undefined) throw new Error(`the ${role} connection was not used yet`)
    return link
  }
  return { commands: known('commands'), subscriber: known('subscriber') }
}
