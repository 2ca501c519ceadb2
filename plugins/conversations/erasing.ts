import { Type } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import { sleep } from '../../lib/async/timers.js'
import { callNodes } from '../../lib/backplane/call-nodes.js'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { Id, withIds } from '../../lib/id-schemas.js'
import type { Internals } from '../../lib/internals.js'
import type { UserRef } from '../../lib/keys.js'
import { eraseUser, type Erased } from '../../lib/upkeep/erasure.js'

/** The RPC that makes a node write its buffered rows, and forget a user. Shared state is only processed by the caller. */
const SETTLE = 'conversations.settle'
const User = Type.Object({ tenantId: Id, userId: Id })
/** Time limit of that call, in milliseconds. */
const SETTLE_MS = 5000
/** Milliseconds between two checks of whether a user has left. */
const LOOK_MS = 50
/** How long a user's connections may take to close, and the user to go offline, in milliseconds. */
const TO_LEAVE_MS = 5000
/** Milliseconds after which a node that did not respond has written its buffered rows. */
const AGAIN_MS = 3000

/**
 * Erases users who may be connected. Ending their presence writes rows, so it ends first, and every node writes its buffered
 * rows; then all rows are erased.
 */
export class Erasing {
  readonly #internals: Internals
  readonly #close: (user: UserRef) => Promise<void>
  readonly #forget: (user: UserRef) => void
  readonly #log: FastifyBaseLogger
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor (internals: Internals, { close, forget }: { close: (user: UserRef) => Promise<void>, forget: (user: UserRef) => void }, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#close = close
    this.#log = log
    this.#forget = forget
    const schema = withIds(User, internals.ids.kind)
    internals.rpc.handle(SETTLE, async (data) => { await this.#settle(checkedData(schema, data)) })
  }

  async erase (user: UserRef): Promise<Erased> {
    await this.#disconnect(user)
    const { erased, isComplete } = await this.#run(user)
    this.#eraseAgain(user, isComplete)
    return erased
  }

  close (): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }

  /** Erases the user again later, because a slow node may report the end of a connection after Redis forgot the user. */
  #eraseAgain (user: UserRef, isComplete: boolean): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#runUnlessBack(user, isComplete).catch((err: unknown) => { this.#log.error({ err }, 'Could not erase rows that connections of an erased user left behind: erase the user again') })
    }, AGAIN_MS).unref()
    this.#timers.add(timer)
  }

  /** Erases again, unless the user has connected again. */
  async #runUnlessBack (user: UserRef, isComplete: boolean): Promise<void> {
    const { roster } = this.#internals
    if ((await roster.connectionsOf(user.tenantId, user.userId)).length > 0) return
    if (!isComplete) {
      await this.#run(user)
    } else {
      await this.#settleAll(user)
      await roster.forget(user)
    }
  }

  /** `isComplete`: every node has written its buffered rows. */
  async #run (user: UserRef): Promise<{ erased: Erased, isComplete: boolean }> {
    const { database, ids, roster } = this.#internals
    const isComplete = await this.#settleAll(user)
    const erased = await eraseUser({ db: database.slow, dialect: database.dialect }, ids, user)
    await roster.forget(user)
    return { erased, isComplete }
  }

  /** False if a node did not respond. */
  async #settleAll (user: UserRef): Promise<boolean> {
    const { roster, rpc, nodeId } = this.#internals
    const others = (await roster.aliveNodes().catch(() => [])).filter((node) => node !== nodeId)
    const [settled] = await Promise.all([callNodes(rpc, others, { op: SETTLE, data: user, timeout: SETTLE_MS }), this.#settle(user)])
    return others.every((node) => settled.has(node))
  }

  async #settle (user: UserRef): Promise<void> {
    for (const rows of this.#internals.database.behind) await rows.drain()
    this.#forget(user)
    this.#internals.roster.release(user)
  }

  async #disconnect (user: UserRef): Promise<void> {
    const { roster } = this.#internals
    const { tenantId, userId } = user
    await this.#close(user)
    await this.#until(async () => (await roster.connectionsOf(tenantId, userId)).length === 0)
    await this.#leave(user)
  }

  /** Takes the user offline at once, instead of after the grace. */
  async #leave (user: UserRef): Promise<void> {
    const { roster } = this.#internals
    await roster.dismiss(user)
    await this.#until(async () => (await roster.presence(user.tenantId, [user.userId]))[0] === null)
  }

  /** Waits until it is done, or for a limited time. Rejects while Redis is away, because its data of the user cannot be erased. */
  async #until (isDone: () => Promise<boolean>): Promise<void> {
    for (const deadline = performance.now() + TO_LEAVE_MS; !await isDone() && performance.now() < deadline;) await sleep(LOOK_MS)
  }
}
