import { appendFileSync } from 'node:fs'
import type { Test } from 'tap'
import { check, type Findings } from './check.js'
import { healthOf, type Cluster } from './cluster.js'
import type { Load } from './load.js'
import type { Link, Proxy } from './proxy.js'
import { until } from './until.js'

/** Milliseconds within which a node reports that it is not healthy, and is healthy again once the cause is gone. */
const NOTICED = 6000
const HEALED = 10_000

export interface Fault {
  name: string
  cluster: Pick<Cluster, 'rows'>
  /** Nodes that the fault reaches. */
  nodes: ReadonlyArray<{ url: string, output?: () => string }>
  load: Load
  begin: () => void | Promise<void>
  /** While it lasts; unless it is silent, all nodes have noticed it. */
  meanwhile?: () => void | Promise<void>
  /** Ends the cause; absent where it ends by itself as soon as it is noticed. */
  end?: () => void | Promise<void>
  /** The fault is too short for a health check, or does not keep a node from its work. */
  silent?: boolean
  /** What has to be right again for users, besides health: resolves once it is. */
  healed?: () => Promise<unknown>
  /** Message ids that the database itself lost, although it had acknowledged them. */
  lostByDatabase?: () => ReadonlySet<number>
}

/** What was measured, in milliseconds and events. */
export interface FaultFigures {
  name: string
  unhealthyAfter: number | null
  healthyAfter: number
  acked: number
  refused: number
  lost: number
  toldTwice: number
}

/**
 * Brings a fault about under load and holds the nodes to their promises: they report it, they heal within ten seconds of
 * its end, no socket is closed, every acked event is stored and delivered, and nothing that was refused as not stored is.
 */
export async function suffer (t: Test, fault: Fault): Promise<Findings> {
  const { cluster, nodes, load, silent = false } = fault
  const watches = nodes.map((node) => new HealthWatch(t, node))
  await until('all are healthy', 10_000, () => watches.every(({ ok }) => ok))
  await until('messages flow', 10_000, () => load.acked.length > 50)
  t.equal(watches.reduce((sum, { alarms }) => sum + alarms, 0), 0, 'no alarm before')

  const began = Date.now()
  await fault.begin()
  const unhealthyAfter = silent ? null : await latest(watches.map(async (watch) => await watch.unhealthy(began)))
  await fault.meanwhile?.()
  const ended = fault.end === undefined ? began + (unhealthyAfter ?? 0) : Date.now()
  await fault.end?.()
  const healed = await latest([
    ...watches.map(async (watch) => await watch.healthy(ended)),
    ...fault.healed === undefined ? [] : [fault.healed().then(() => Date.now() - ended)]
  ])

  const before = load.acked.length
  await until('messages flow again', 15_000, () => load.acked.length > before + 50)
  await load.stopSending()
  const findings = await check(cluster, load, { within: 30_000, lostByDatabase: fault.lostByDatabase?.() })
  const { problems, acked } = findings
  record(t, {
    name: fault.name,
    unhealthyAfter,
    healthyAfter: healed,
    acked,
    refused: load.refusals.length,
    lost: problems.length,
    toldTwice: load.receivers.reduce((sum, receiver) => sum + receiver.toldTwice, 0)
  })
  t.ok(healed <= HEALED, `healthy again within ${HEALED} ms of the end: ${healed}`)
  t.strictSame(problems, [], 'what was acked is stored and delivered, once and in order')
  t.strictSame(load.closeCodes, [], 'no socket was closed')
  t.ok(load.refusals.every(({ code, outcome, retryAfter = 0 }) => code === 'RT_STORAGE_UNAVAILABLE' && outcome !== undefined && retryAfter > 0),
    'each refusal names the database, the outcome and a time to retry')
  for (const node of nodes) {
    const log = node.output?.() ?? ''
    const lines = log.split('\n').filter((line) => /Database away|Redis does not accept writes/.test(line))
    t.ok(lines.length < 20, `one line for each change of state, not for each request: ${lines.length}`)
    t.notMatch(log, new RegExp(`${load.clubId}:\\d+:\\d+`), 'the log holds no message texts')
  }
  return findings
}

const latest = async (times: Array<Promise<number>>): Promise<number> => Math.max(...await Promise.all(times))

/** To the test's output, and to the file named by FAULT_FIGURES, from which the table in the docs is made. */
function record (t: Test, figures: FaultFigures): void {
  t.comment(JSON.stringify(figures))
  const { FAULT_FIGURES: file } = process.env
  if (file) appendFileSync(file, `${JSON.stringify(figures)}\n`)
}

/** Asks a node for its health all the time. */
class HealthWatch {
  readonly #changes: Array<{ at: number, ok: boolean }> = []
  #ended = false

  constructor (t: Test, node: { url: string }) {
    t.teardown(() => { this.#ended = true })
    void this.#run(node)
  }

  /** How often the node became unhealthy so far. */
  get alarms (): number {
    return this.#changes.filter(({ ok }) => !ok).length
  }

  /** As it is now. */
  get ok (): boolean {
    return this.#changes.at(-1)?.ok ?? false
  }

  /** Milliseconds from `since` (of Date.now) until it became unhealthy. */
  async unhealthy (since: number): Promise<number> {
    const change = await until('it reports that it is not healthy', NOTICED, () => this.#changes.find(({ at, ok }) => !ok && at >= since))
    return change.at - since
  }

  /** Milliseconds from `since` until it became healthy; 0 where it was before. */
  async healthy (since: number): Promise<number> {
    await until('it is healthy', 3 * HEALED, () => this.ok)
    return Math.max(0, (this.#changes.at(-1)?.at ?? 0) - since)
  }

  async #run (node: { url: string }): Promise<void> {
    while (!this.#ended) {
      const ok = await healthOf(node).then((status) => status === 200, () => false)
      if (ok !== this.#changes.at(-1)?.ok) this.#changes.push({ at: Date.now(), ok })
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
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
