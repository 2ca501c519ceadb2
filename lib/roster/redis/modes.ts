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

  /** What Redis lost is as this node knew it. */
  learn (tenantId: Id, { everyone, online }: FoundMode): Mode {
    const mode = { everyone: everyone ?? this.of(tenantId).everyone, online }
    this.#modes.set(tenantId, mode)
    return mode
  }

  /** Learns what Redis has decided. True if Redis lost it, and would decide otherwise. */
  isLost (tenantId: Id, everyone: FoundMode['everyone']): boolean {
    const known = this.of(tenantId)
    if (everyone === null) return known.everyone !== this.everyone
    if (everyone !== known.everyone) this.#modes.set(tenantId, { ...known, everyone })
    return false
  }

  /** Writes what Redis lost. Otherwise nobody would be sent that the mode is another one now. */
  async restore (commands: RosterCommands, tenantIds: Id[]): Promise<void> {
    if (tenantIds.length === 0) return
    await commands.runOver('restoreMode', {}, tenantIds.map((tenantId) => ({ tenantId, rows: [this.of(tenantId)] })), ({ everyone }) => ({ everyone: everyone ? '1' : '0' }))
    await commands.scheduleTell(...tenantIds)
  }

  of (tenantId: Id): Mode {
    return this.#modes.get(tenantId) ?? { everyone: this.everyone, online: 0 }
  }
}
