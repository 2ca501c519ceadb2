import type { Id } from '../../ids.js'
import type { EarlyWatch, RosterConnections, RosterWatches } from '../contract.js'
import type { RosterCommands } from './commands.js'

/** Channels, and users to be watched, of connections whose sockets are not open yet. */
export class RequestedByRest implements RosterWatches, Pick<RosterConnections, 'addChannel' | 'removeChannel' | 'channels'> {
  readonly #commands: RosterCommands

  constructor (commands: RosterCommands) {
    this.#commands = commands
  }

  async addChannel (tenantId: Id, connectionId: string, channel: string, limit: number): Promise<boolean> {
    return await this.#commands.run('addChannel', this.#commands.base(tenantId), { id: connectionId, channel, limit }) === 1
  }

  async removeChannel (tenantId: Id, connectionId: string, channel: string): Promise<void> {
    await this.#commands.redis.srem(`${this.#commands.base(tenantId)}channels:${connectionId}`, channel)
  }

  async channels (tenantId: Id, connectionId: string): Promise<string[]> {
    return await this.#commands.redis.smembers(`${this.#commands.base(tenantId)}channels:${connectionId}`)
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
