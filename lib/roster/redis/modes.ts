import { BoundedMap } from '../../async/bounded-map.js'
import type { Id } from '../../ids.js'
import type { Mode } from '../contract.js'
import type { RosterCommands } from './commands.js'

const MAX_TENANTS = 50_000

/** A mode as a script returns it. `everyone` is null if Redis has decided nothing, or lost it. */
export interface FoundMode extends Omit<Mode, 'everyone'> { everyone: boolean | null }

/** How presence is sent in tenants, as this node learned it last. While Redis is away, it stays as it is. */
export class Modes {
  readonly #modes = new BoundedMap<Id, Mode>(MAX_TENANTS)
  /** In a tenant that this node knows nothing of. */
  everyone = true

  /** Learns a mode; the parts that Redis lost stay as this node knew them. */
  learn (tenantId: Id, { everyone, online }: FoundMode): Mode {
    const mode = { everyone: everyone ?? this.of(tenantId).everyone, online }
    this.#modes.set(tenantId, mode)
    return mode
  }

  /** Learns the decision of Redis. True if Redis lost it, and would decide differently. */
  isLost (tenantId: Id, everyone: FoundMode['everyone']): boolean {
    const known = this.of(tenantId)
    if (everyone === null) return known.everyone !== this.everyone
    if (everyone !== known.everyone) this.#modes.set(tenantId, { ...known, everyone })
    return false
  }

  /** Writes modes that Redis lost. Otherwise a change of the mode would not be sent. */
  async restore (commands: RosterCommands, tenantIds: Id[]): Promise<void> {
    if (tenantIds.length === 0) return
    await commands.runOver('restoreMode', {}, tenantIds.map((tenantId) => ({ tenantId, rows: [this.of(tenantId)] })), ({ everyone }) => ({ everyone: everyone ? '1' : '0' }))
    await commands.scheduleAnnouncement(...tenantIds)
  }

  of (tenantId: Id): Mode {
    return this.#modes.get(tenantId) ?? { everyone: this.everyone, online: 0 }
  }
}
