import type { Id } from '../../ids.js'
import type { EarlyWatch, RosterWatches } from '../contract.js'
import type { RosterCommands } from './commands.js'

/** Users to be watched by connections whose sockets are not open yet. */
export class RedisWatches implements RosterWatches {
  readonly #commands: RosterCommands

  constructor (commands: RosterCommands) {
    this.#commands = commands
  }

  async recordWatches (tenantId: Id, connectionId: string, watches: readonly EarlyWatch[], limit: number): Promise<boolean> {
    const kept = await this.#commands.run('recordWatches', this.#commands.base(tenantId), { id: connectionId, limit: Math.min(limit, Number.MAX_SAFE_INTEGER) }, watches.flatMap(({ userId, said }) => [userId, said]))
    return kept === 1
  }

  async dropWatches (tenantId: Id, connectionId: string, userIds: readonly Id[] | null): Promise<number> {
    return await this.#commands.run('dropWatches', this.#commands.base(tenantId), { id: connectionId }, userIds ?? []) as number
  }

  async takeWatches (tenantId: Id, connectionId: string): Promise<EarlyWatch[]> {
    const found = await this.#commands.run('takeWatches', this.#commands.base(tenantId), { id: connectionId }) as string[]
    const watches: EarlyWatch[] = []
    for (let i = 0; i + 1 < found.length; i += 2) watches.push({ userId: this.#commands.ids.parse(found[i] ?? ''), said: found[i + 1] ?? '' })
    return watches
  }
}
