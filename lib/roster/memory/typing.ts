import type { Clock } from '../../clock.js'
import type { Id } from '../../ids.js'
import type { RosterTyping, TypingEntry, TypingKey } from '../contract.js'
import { scheduleCheck, type Tenant } from './tenant.js'

/** Who types, in one process. */
export class MemoryTyping implements RosterTyping {
  readonly #tenants: ReadonlyMap<Id, Tenant>
  readonly #tenantOf: (tenantId: Id) => Tenant
  readonly #clock: Clock

  constructor (tenants: ReadonlyMap<Id, Tenant>, tenantOf: (tenantId: Id) => Tenant, clock: Clock) {
    this.#tenants = tenants
    this.#tenantOf = tenantOf
    this.#clock = clock
  }

  startTyping (entry: TypingEntry): boolean {
    const tenant = this.#tenantOf(entry.tenantId)
    const { typing } = tenant
    const key = `${entry.userId}:${entry.conversationId}`
    const known = typing.get(key)
    const isTyping = known !== undefined && known.expiresAt > this.#clock.now()
    if (isTyping) known.expiresAt = entry.expiresAt
    else typing.set(key, { ...entry })
    scheduleCheck(tenant, entry.expiresAt)
    return !isTyping
  }

  async stopTyping (keys: TypingKey[]): Promise<TypingEntry[]> {
    return keys.flatMap(({ tenantId, userId, conversationId }) => {
      const typing = this.#tenants.get(tenantId)?.typing
      const entry = typing?.get(`${userId}:${conversationId}`)
      if (entry === undefined) return []
      typing?.delete(`${userId}:${conversationId}`)
      return [entry]
    })
  }

  async typing (tenantId: Id, conversationId: string): Promise<TypingEntry[]> {
    const now = this.#clock.now()
    return [...this.#tenants.get(tenantId)?.typing.values() ?? []]
      .filter((entry) => entry.conversationId === conversationId && entry.expiresAt > now)
      .sort((a, b) => a.startedAt - b.startedAt)
  }
}
