import type { FastifyBaseLogger } from 'fastify'
import type { Due, RosterTimes, TypingEntry, UsersOfTenant } from '../contract.js'
import type { Farewells } from '../farewells.js'
import { decodePresence, toEntry } from './codec.js'
import type { Part, RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import type { RedisTyping } from './typing.js'

/** How long a node has to tell what became due before another one does, in milliseconds. */
const CLAIM = 5000
/** Tenants of a dead node that are looked through together. */
const TENANTS = 200

export interface SweepParts {
  commands: RosterCommands
  lease: Lease
  farewells: Farewells
  typing: RedisTyping
  times: RosterTimes
  log: FastifyBaseLogger
}

/** What ends by itself: graces, typing, connections without a socket, and nodes. For many tenants at once. */
export class RedisSweep {
  readonly #parts: SweepParts

  constructor (parts: SweepParts) {
    this.#parts = parts
  }

  async due (): Promise<Due[]> {
    const { commands, lease, typing } = this.#parts
    const isKnown = commands.ready && !lease.isUnsettled
    const here = typing.expired(isKnown).filter(({ isInRedis }) => !isInRedis).map(({ entry }): Due =>
      ({ tenantId: entry.tenantId, offline: [], presences: [], typing: [entry], expiredConnections: [] }))
    // What came back may say of everybody that they are gone.
    if (lease.isUnsettled) return here
    try {
      for (;;) {
        const { found, more } = await this.#dueAnywhere()
        if (found.length > 0 || !more) return [...here, ...found]
      }
    } catch (err) {
      if (here.length === 0) throw err
      return here
    }
  }

  async #dueAnywhere (): Promise<{ found: Due[], more: boolean }> {
    const { commands, lease, times } = this.#parts
    const [ends = '', ...claimed] = await commands.run('claimDue', commands.dueKey, CLAIM) as string[]
    const parts: Array<Part<never> & { mark: string }> = []
    for (let i = 0; i + 1 < claimed.length; i += 2) parts.push({ tenantId: Number(claimed[i]), rows: [], mark: claimed[i + 1] ?? '0' })
    if (parts.length === 0) return { found: [], more: false }
    const answered = await commands.runOver('due', [times.offlineDelay, CLAIM], parts, () => null)
    const found: Due[] = []
    const finished: Array<string | number> = []
    for (const { part: { tenantId, mark }, answer } of answered) {
      const [offline, presences, typing, lapsed, next] = answer as [string[], string[], string[], string[], string]
      finished.push(tenantId, mark, next)
      if (offline.length + typing.length + lapsed.length === 0) continue
      found.push({
        tenantId,
        offline: offline.map(Number),
        presences: offline.map((_, i) => decodePresence(presences[2 * i], presences[2 * i + 1], lease.now)),
        typing: typing.map((text) => JSON.parse(text) as TypingEntry),
        expiredConnections: lapsed.map((text) => toEntry(tenantId, text))
      })
    }
    await commands.run('finishDue', commands.dueKey, ends, ...finished)
    return { found, more: true }
  }

  async settle (told: UsersOfTenant[]): Promise<UsersOfTenant[]> {
    const { commands, farewells, lease } = this.#parts
    const parts = told.filter(({ userIds }) => userIds.length > 0).map(({ tenantId, userIds }) => ({ tenantId, rows: userIds }))
    if (parts.length === 0) return []
    const answered = await commands.runOver('settle', [], parts, (userId) => [userId])
    const at = lease.now
    return answered.flatMap(({ part: { tenantId }, rows, answer }) => {
      const back = (answer as string[]).map(Number)
      for (const userId of rows) if (!back.includes(userId)) farewells.add({ tenantId, userId, at, told: true })
      return back.length === 0 ? [] : [{ tenantId, userIds: back }]
    })
  }

  async reap (): Promise<boolean> {
    const { commands, lease, log } = this.#parts
    if (lease.isUnsettled) return false
    let reaped = false
    for (const nodeId of await this.#dead()) {
      const key = commands.tenantsKey(nodeId)
      for (;;) {
        const tenantIds = (await commands.attempt(async (redis) => await redis.srandmember(key, TENANTS))).map(Number)
        if (tenantIds.length === 0) break
        // It may have come back while the others were looked through, and holds them again.
        if (!(await this.#dead()).includes(nodeId)) return reaped
        await this.#reapIn(nodeId, tenantIds)
        await commands.attempt(async (redis) => await redis.srem(key, ...tenantIds))
        reaped = true
      }
      // Last, so that whoever is interrupted leaves the node to the next reaper.
      await commands.attempt(async (redis) => await redis.zrem(commands.nodesKey, nodeId))
      log.info({ node: nodeId }, 'dead node reaped')
    }
    return reaped
  }

  async #dead (): Promise<string[]> {
    return await this.#parts.commands.run('nodes', this.#parts.commands.nodesKey, '1') as string[]
  }

  async #reapIn (nodeId: string, tenantIds: number[]): Promise<void> {
    const { commands, lease } = this.#parts
    // Of those whom an older copy of Redis brought back another node may know that they were told.
    const [delay, quietly] = lease.isRecovering ? [lease.patience, '1'] : [0, '0']
    await commands.becomingDue(tenantIds, delay, async () => {
      let left = tenantIds.map((tenantId): Part<never> => ({ tenantId, rows: [] }))
      while (left.length > 0) {
        const answered = await commands.runOver('reap', [nodeId, delay, quietly], left, () => null)
        left = answered.filter(({ answer }) => Number(answer) > 0).map(({ part }) => part)
      }
    })
  }
}
