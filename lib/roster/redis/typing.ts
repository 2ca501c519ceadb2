import type { Clock } from '../../clock.js'
import type { TypingEntry } from '../contract.js'
import { isAway, partsOf, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import { TypedBefore, LocalTyping, type Typed } from './local-typing.js'

export type TypingKey = Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>

/** What the scripts answer for typing that another node stopped. */
const STOPPED_ELSEWHERE = '-'
/** And for what was not there. */
const MISSED = '1'
/** And for what ran out. */
const OVER = ''
/** What ends this soon is compared with Redis once more, so that its end is told though Redis lost it, in milliseconds. */
const ENDING = 1500

/** The roster's typing on Redis; while that is away, what was typed on this node is started and stopped here alone. */
export class RedisTyping {
  readonly #nodeId: string
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #clock: Clock
  readonly #local = new LocalTyping()
  readonly #before = new TypedBefore()

  constructor (nodeId: string, commands: RosterCommands, lease: Lease, clock: Clock) {
    this.#nodeId = nodeId
    this.#commands = commands
    this.#lease = lease
    this.#clock = clock
  }

  async start (entry: TypingEntry): Promise<boolean> {
    const before = this.#local.get(entry, this.#clock.now())
    const lasting = before === null ? entry : { ...before.entry, expiresAt: entry.expiresAt }
    try {
      const started = before?.isInRedis === true ? await this.#prolong(lasting) : await this.#write(lasting)
      this.#local.set(lasting, true)
      // Where it began while Redis was away it was told then.
      return started && (before === null || before.isInRedis)
    } catch (err) {
      if (!isAway(err)) throw err
      this.#local.set(lasting, false)
      return before === null
    }
  }

  async stop (keys: TypingKey[]): Promise<TypingEntry[]> {
    const now = this.#clock.now()
    const here = this.#local.take(keys).map(({ entry, isInRedis }) => ({ entry, isInRedis, isOver: entry.expiresAt <= now }))
    for (const { entry } of here) this.#before.add({ ...entry, at: now, ranOut: false })
    const tenants = [...new Set(keys.map(({ tenantId }) => tenantId))]
    const stopped = await Promise.all(tenants.map(async (tenantId) => {
      const asked = keys.filter((key) => key.tenantId === tenantId)
      const own = (key: TypingKey) => here.find(({ entry }) => typingKey(entry) === typingKey(key) && entry.tenantId === tenantId)
      try {
        const found = await this.#commands.run('stopTyping', this.#commands.base(tenantId), this.#nodeId, ...asked.map(typingKey)) as string[]
        return asked.flatMap((key, i) => {
          const text = found[i] ?? ''
          const mine = own(key)
          if (text !== '' && text !== STOPPED_ELSEWHERE) return [JSON.parse(text) as TypingEntry]
          // Begun while Redis was away, or evicted there.
          return mine !== undefined && (!mine.isInRedis || (text === '' && !mine.isOver)) ? [mine.entry] : []
        })
      } catch (err) {
        if (!isAway(err)) throw err
        return asked.flatMap((key) => own(key)?.entry ?? [])
      }
    }))
    return stopped.flat()
  }

  async list (tenantId: number, conversationId: string): Promise<TypingEntry[]> {
    const found = await this.#commands.run('typing', this.#commands.base(tenantId), conversationId) as string[]
    const entries: TypingEntry[] = []
    for (let i = 0; i + 1 < found.length; i += 2) {
      entries.push({ ...JSON.parse(found[i] ?? '') as TypingEntry, expiresAt: Number(found[i + 1]) })
    }
    return entries.sort((a, b) => a.startedAt - b.startedAt)
  }

  /** Takes out what was typed here and ran out; Redis tells of what is `written` there. `known`: it still has that. */
  expired (known: boolean): Typed[] {
    const expired = this.#local.expired(this.#clock.now(), known)
    for (const { entry, isInRedis } of expired) this.#before.add({ ...entry, at: entry.expiresAt, ranOut: isInRedis })
    return expired
  }

  /** Writes what Redis misses of what was typed here: of all of it, or of what ends soon. Returns how much that was. */
  async keep (which: 'all' | 'ending', lost: boolean): Promise<number> {
    if (lost || (which === 'all' && this.#lease.isRecovering)) await this.#endBefore()
    const soon = this.#clock.now() + ENDING
    const kept = this.#local.all.filter(({ entry, isInRedis }) => which === 'all' || !isInRedis || entry.expiresAt <= soon)
    if (kept.length === 0) return 0
    const answered = await this.#commands.runOver('keepTyping', [this.#nodeId, lost ? '1' : '0'], partsOf(kept, ({ entry }) => entry.tenantId),
      (typed) => this.#local.has(typed) ? [typingKey(typed.entry), JSON.stringify(typed.entry), typed.entry.expiresAt] : null)
    let missed = 0
    const due: Array<[time: number, tenantId: number]> = []
    for (const { part, rows, answer } of answered) {
      due.push([Math.min(...rows.map(({ entry }) => entry.expiresAt)), part.tenantId])
      rows.forEach((typed, i) => {
        const state = (answer as string[])[i]
        if (state === MISSED) missed++
        if (state === STOPPED_ELSEWHERE && this.#local.has(typed)) this.#local.take([typed.entry])
        else if (state !== OVER) typed.isInRedis = true
      })
    }
    await this.#commands.run('dueBy', this.#commands.dueKey, ...due.filter(([time]) => time < Infinity).flat())
    return missed
  }

  async #endBefore (): Promise<void> {
    await this.#commands.runOver('endTyping', [this.#nodeId], partsOf(this.#before.told(this.#lease.goodAt - ENDING), ({ tenantId }) => tenantId),
      (ended) => this.#local.get(ended, 0) === null ? [typingKey(ended), ended.at, ended.ranOut ? '1' : '0'] : null)
  }

  async #write (entry: TypingEntry): Promise<boolean> {
    return await this.#commands.becomingDue([entry.tenantId], entry.expiresAt - this.#clock.now(), async () => await this.#runStart(entry))
  }

  /** Mostly it goes on, and is looked at by when it would have run out: nothing becomes due earlier than it was said to. */
  async #prolong (entry: TypingEntry): Promise<boolean> {
    return await this.#runStart(entry, '1') && await this.#write(entry)
  }

  /** True: it was not there. With '1' it is not begun then. */
  async #runStart (entry: TypingEntry, again: '0' | '1' = '0'): Promise<boolean> {
    return await this.#commands.run('startTyping', this.#commands.base(entry.tenantId), typingKey(entry), JSON.stringify(entry),
      entry.expiresAt, again, this.#nodeId) === 1
  }
}

const typingKey = ({ userId, conversationId }: Pick<TypingEntry, 'userId' | 'conversationId'>): string => `${userId}:${conversationId}`
