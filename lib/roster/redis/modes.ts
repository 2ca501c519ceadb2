import { BoundedMap } from '../../async/bounded-map.js'
import type { Id } from '../../ids.js'
import type { Mode } from '../contract.js'

const MAX_TENANTS = 50_000

/** How presence is sent in tenants, as this node learned it last. While Redis is away, it stays as it is. */
export class Modes {
  readonly #modes = new BoundedMap<Id, Mode>(MAX_TENANTS)
  /** In a tenant that this node knows nothing of. */
  everyone = true

  learn (tenantId: Id, { everyone, online }: Mode): void {
    this.#modes.set(tenantId, { everyone, online })
  }

  of (tenantId: Id): Mode {
    return this.#modes.get(tenantId) ?? { everyone: this.everyone, online: 0 }
  }
}
