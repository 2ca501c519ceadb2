import type { Clock } from '../clock.js'
import type { TypingEntry } from './contract.js'
import type { RosterCommands } from './redis-commands.js'
import { TypedHere } from './typed-here.js'

export type TypingKey = Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>

/** The roster's typing on Redis; while that is away, what was typed on this node is started and stopped here alone. */
export class RedisTyping {
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #typed = new TypedHere()

  constructor (commands: RosterCommands, clock: Clock) {
    this.#commands = commands
    this.#clock = clock
  }

  async start (entry: TypingEntry): Promise<boolean> {
    const before = this.#typed.get(entry, this.#clock.now())
    const lasting = before === null ? entry : { ...before.entry, expiresAt: entry.expiresAt }
    try {
      const started = before?.written === true ? await this.#writeAgain(lasting) : await this.#write(lasting)
      this.#typed.set(lasting, true)
      // Where it began while Redis was away it was told then.
      return started && (before === null || before.written)
    } catch {
      this.#typed.set(lasting, false)
      return before === null
    }
  }

  async stop (keys: TypingKey[]): Promise<TypingEntry[]> {
    const here = this.#typed.take(keys)
    const tenants = [...new Set(keys.map(({ tenantId }) => tenantId))]
    const stopped = await Promise.all(tenants.map(async (tenantId) => {
      const own = here.filter(({ entry }) => entry.tenantId === tenantId)
      const names = keys.filter((key) => key.tenantId === tenantId).map(typingKey)
      try {
        const found = await this.#commands.run('stopTyping', this.#commands.base(tenantId), ...names) as string[]
        return [...own.filter(({ written }) => !written).map(({ entry }) => entry), ...found.map((text) => JSON.parse(text) as TypingEntry)]
      } catch {
        return own.map(({ entry }) => entry)
      }
    }))
    return stopped.flat()
  }

  async in (tenantId: number, conversationId: string): Promise<TypingEntry[]> {
    const found = await this.#commands.run('typing', this.#commands.base(tenantId), conversationId) as string[]
    const entries: TypingEntry[] = []
    for (let i = 0; i + 1 < found.length; i += 2) {
      entries.push({ ...JSON.parse(found[i] ?? '') as TypingEntry, expiresAt: Number(found[i + 1]) })
    }
    return entries.sort((a, b) => a.startedAt - b.startedAt)
  }

  /** Takes out what was typed here and ran out; Redis tells of what is `written` there. */
  expired (): Array<{ entry: TypingEntry, written: boolean }> {
    return this.#typed.expired(this.#clock.now())
  }

  /** Writes what Redis missed, or all after it was emptied. */
  async writeBack (emptied: boolean): Promise<void> {
    for (const { entry, written } of this.#typed.all) {
      if (written && !emptied) continue
      await this.#write(entry)
      this.#typed.set(entry, true)
    }
  }

  async #write (entry: TypingEntry): Promise<boolean> {
    return await this.#commands.becomingDue(entry.tenantId, entry.expiresAt - this.#clock.now(), async () => await this.#say(entry))
  }

  /** Mostly it goes on, and is looked at by when it would have run out: nothing becomes due earlier than it was said to. */
  async #writeAgain (entry: TypingEntry): Promise<boolean> {
    return await this.#say(entry, '1') && await this.#write(entry)
  }

  /** True: it was not there. With '1' it is not begun then. */
  async #say (entry: TypingEntry, again: '0' | '1' = '0'): Promise<boolean> {
    return await this.#commands.run('startTyping', this.#commands.base(entry.tenantId), typingKey(entry), JSON.stringify(entry), entry.expiresAt, again) === 1
  }
}

const typingKey = ({ userId, conversationId }: Pick<TypingEntry, 'userId' | 'conversationId'>): string => `${userId}:${conversationId}`
