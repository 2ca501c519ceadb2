import type { Id } from '../../ids.js'
import type { ArgumentsOf } from '../../redis/commands.js'
import { inOrder, type Argument } from '../../redis/script.js'
import type { RosterCommands } from './commands.js'
import { MAX_ROWS, partsOf } from './parts.js'
import { setRoom } from './room-scripts.js'
import { join, leave } from './tenant-scripts.js'

const scripts = { join, leave, setRoom }

interface Change {
  tenantId: Id
  name: keyof typeof scripts
  args: Argument[]
  /** Milliseconds until the deadline that it creates; null: it creates none. */
  checkIn: number | null
  resolve: (result: unknown) => void
  reject: (err: unknown) => void
}

/**
 * Joins and leaves of connections, and of channels with members. Those of one turn of the event loop are sent in one call, in
 * their order: after a deploy, hundreds of sockets open or close in a turn, each with many channels, and one call per change
 * would cost more than the change itself. On a cluster each tenant has a call of its own, because its keys are on one server.
 */
export class ConnectionChanges {
  readonly #commands: RosterCommands
  #waiting: Change[] = []

  constructor (commands: RosterCommands) {
    this.#commands = commands
  }

  /** Resolves with the result of the script. Rejects like `RosterCommands.run`. */
  async add<Name extends keyof typeof scripts> (
    name: Name, tenantId: Id, args: ArgumentsOf<(typeof scripts)[Name]>, checkIn: number | null
  ): Promise<unknown> {
    return await new Promise((resolve, reject) => {
      const inNames = inOrder<string>(scripts[name].parameters, args)
      const length = this.#waiting.push({ tenantId, name, args: inNames, checkIn, resolve, reject })
      if (length === 1) setImmediate(() => { this.flush() })
    })
  }

  /** Sends waiting changes before the end of this turn. */
  flush (): void {
    const changes = this.#waiting
    this.#waiting = []
    if (this.#commands.redis.isCluster) {
      for (const { rows } of partsOf(changes, ({ tenantId }) => tenantId)) void this.#send(rows)
      return
    }
    for (let at = 0; at < changes.length; at += MAX_ROWS) void this.#send(changes.slice(at, at + MAX_ROWS))
  }

  async #send (changes: Change[]): Promise<void> {
    const [first] = changes
    if (first === undefined) return
    try {
      const run = async (): Promise<unknown> => await this.#run(first.tenantId, changes)
      const delays = changes.flatMap(({ checkIn }) => checkIn ?? [])
      const isScheduled = this.#commands.redis.isCluster && delays.length > 0
      const results = await (isScheduled ? this.#commands.withScheduledCheck([first.tenantId], Math.min(...delays), run) : run()) as unknown[]
      changes.forEach(({ resolve, reject }, i) => {
        const result = results[i]
        if (result instanceof Error) reject(this.#commands.redis.toError(result))
        else resolve(result)
      })
    } catch (err) {
      for (const { reject } of changes) reject(err)
    }
  }

  async #run (tenantId: Id, changes: Change[]): Promise<unknown> {
    const keys = this.#commands.keysOf(tenantId)
    const keyOf = new Map([[tenantId, 1]])
    const args: Argument[] = []
    for (const change of changes) {
      let key = keyOf.get(change.tenantId)
      if (key === undefined) keyOf.set(change.tenantId, key = keys.push(this.#commands.base(change.tenantId)))
      args.push(change.name, key, ...change.args)
    }
    return await this.#commands.run('changeConnections', keys, {}, args)
  }
}
