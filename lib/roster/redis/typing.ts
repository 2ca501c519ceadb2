import type { Clock } from '../../clock.js'
import type { Id } from '../../ids.js'
import type { UserRef } from '../../keys.js'
import type { ArgumentsOf } from '../../redis/commands.js'
import type { TypingEntry, TypingKey } from '../contract.js'
import { isUnavailable, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import { LocalTyping, RecentlyEndedTyping, type LocalTypingEntry } from './local-typing.js'
import { partsOf } from './parts.js'
import type { startTyping } from './typing-scripts.js'

/** Results of the scripts: another node stopped the typing. */
const STOPPED_ELSEWHERE = '-'
/** Redis did not have it. */
const MISSED = '1'
/** It has expired. */
const EXPIRED = ''
/** Entries that expire within this time are compared with Redis once more, so that their end is reported even if Redis lost them. Milliseconds. */
const ENDING = 1500

/** Typing on Redis. While Redis is away, typing through this node is started and stopped on this node alone. */
export class RedisTyping {
  readonly #nodeId: string
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #clock: Clock
  readonly #local = new LocalTyping()
  readonly #ended = new RecentlyEndedTyping()

  constructor (nodeId: string, commands: RosterCommands, lease: Lease, clock: Clock) {
    this.#nodeId = nodeId
    this.#commands = commands
    this.#lease = lease
    this.#clock = clock
  }

  async start (entry: TypingEntry): Promise<boolean> {
    const before = this.#local.get(entry, this.#clock.now())
    const prolonged = before === null ? entry : { ...before.entry, expiresAt: entry.expiresAt }
    try {
      const isStarted = before?.isInRedis === true ? await this.#prolong(prolonged) : await this.#start(prolonged)
      this.#local.set(prolonged, true)
      // If it was started while Redis was away, the start was reported then.
      return isStarted && (before === null || before.isInRedis)
    } catch (err) {
      if (!isUnavailable(err)) throw err
      this.#local.set(prolonged, false)
      return before === null
    }
  }

  async stop (keys: TypingKey[]): Promise<TypingEntry[]> {
    const now = this.#clock.now()
    const local = this.#local.take(keys).map(({ entry, isInRedis }) => ({ entry, isInRedis, isExpired: entry.expiresAt <= now }))
    for (const { entry } of local) this.#ended.add({ ...entry, at: now, isExpired: false })
    const tenants = [...new Set(keys.map(({ tenantId }) => tenantId))]
    const stopped = await Promise.all(tenants.map(async (tenantId) => {
      const ofTenant = keys.filter((key) => key.tenantId === tenantId)
      const own = (key: TypingKey) => local.find(({ entry }) => typingKey(entry) === typingKey(key) && entry.tenantId === tenantId)
      try {
        const found = await this.#commands.run('stopTyping', this.#commands.base(tenantId), { node: this.#nodeId }, ofTenant.map(typingKey)) as string[]
        return ofTenant.flatMap((key, i) => {
          const text = found[i] ?? ''
          const mine = own(key)
          if (text !== '' && text !== STOPPED_ELSEWHERE) return [JSON.parse(text) as TypingEntry]
          // It was started while Redis was away, or Redis evicted it.
          return mine !== undefined && (!mine.isInRedis || (text === '' && !mine.isExpired)) ? [mine.entry] : []
        })
      } catch (err) {
        if (!isUnavailable(err)) throw err
        return ofTenant.flatMap((key) => own(key)?.entry ?? [])
      }
    }))
    return stopped.flat()
  }

  /** This node does not write typing of the user again. */
  forget (user: UserRef): void {
    this.#local.forget(user)
  }

  async list (tenantId: Id, conversationId: string): Promise<TypingEntry[]> {
    const found = await this.#commands.run('typing', this.#commands.base(tenantId), { conversation: conversationId }) as string[]
    const entries: TypingEntry[] = []
    for (let i = 0; i + 1 < found.length; i += 2) {
      entries.push({ ...JSON.parse(found[i] ?? '') as TypingEntry, expiresAt: Number(found[i + 1]) })
    }
    return entries.sort((a, b) => a.startedAt - b.startedAt)
  }

  /** Removes and returns expired typing of this node that Redis does not report. `isRedisReliable`: Redis has what is written there. */
  takeExpired (isRedisReliable: boolean): LocalTypingEntry[] {
    const expired = this.#local.takeExpired(this.#clock.now(), isRedisReliable)
    for (const { entry, isInRedis } of expired) this.#ended.add({ ...entry, at: entry.expiresAt, isExpired: isInRedis })
    return expired.filter(({ isInRedis }) => !isInRedis)
  }

  /** Writes typing of this node that Redis does not have: all of it, or what ends soon. Returns the number of entries. */
  async restore (which: 'all' | 'ending', hasLost: boolean): Promise<number> {
    if (hasLost || (which === 'all' && this.#lease.isRecovering)) await this.#endStale()
    const soon = this.#clock.now() + ENDING
    const entries = this.#local.all.filter(({ entry, isInRedis }) => which === 'all' || !isInRedis || entry.expiresAt <= soon)
    if (entries.length === 0) return 0
    const results = await this.#commands.runOver('restoreTyping', { node: this.#nodeId, withExpired: hasLost ? '1' : '0' },
      partsOf(entries, ({ entry }) => entry.tenantId), (typing) => this.#local.has(typing)
        ? { typingKey: typingKey(typing.entry), entry: JSON.stringify(typing.entry), expiresAt: typing.entry.expiresAt }
        : null)
    let missed = 0
    const deadlines: Array<[tenantId: Id, at: number]> = []
    for (const { part, rows, result } of results) {
      if (rows.length > 0) deadlines.push([part.tenantId, Math.min(...rows.map(({ entry }) => entry.expiresAt))])
      rows.forEach((typing, i) => {
        const outcome = (result as string[])[i]
        if (outcome === MISSED) missed++
        if (outcome === STOPPED_ELSEWHERE && this.#local.has(typing)) this.#local.take([typing.entry])
        else if (outcome !== EXPIRED) typing.isInRedis = true
      })
    }
    await this.#commands.scheduleAt(deadlines)
    return missed
  }

  async #endStale (): Promise<void> {
    const ended = this.#ended.reportedBy(this.#lease.completeAt - ENDING)
    await this.#commands.runOver('endTyping', { node: this.#nodeId }, partsOf(ended, ({ tenantId }) => tenantId), (typing) =>
      this.#local.get(typing, 0) === null ? { typingKey: typingKey(typing), endedAt: typing.at, isExpired: typing.isExpired ? '1' : '0' } : null)
  }

  async #start (entry: TypingEntry): Promise<boolean> {
    return await this.#commands.runScheduled('startTyping', entry.tenantId, entry.expiresAt - this.#clock.now(), this.#argumentsOf(entry, '0')) === 1
  }

  /** Needs no new check in most cases: the one that is scheduled for the earlier end finds the new one. */
  async #prolong (entry: TypingEntry): Promise<boolean> {
    const isStarted = await this.#commands.run('startTyping', this.#commands.keysOf(entry.tenantId), this.#argumentsOf(entry, '1')) === 1
    return isStarted && this.#commands.redis.isCluster ? await this.#start(entry) : isStarted
  }

  #argumentsOf (entry: TypingEntry, onlyProlong: '0' | '1'): ArgumentsOf<typeof startTyping> {
    return {
      key: typingKey(entry), entry: JSON.stringify(entry), expiresAt: entry.expiresAt, onlyProlong, node: this.#nodeId, tenant: entry.tenantId
    }
  }
}

const typingKey = ({ userId, conversationId }: Pick<TypingEntry, 'userId' | 'conversationId'>): string => `${userId}:${conversationId}`
