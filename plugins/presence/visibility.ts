import { BoundedMap } from '../../lib/async/bounded-map.js'
import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import type { Caller } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { userKey, type UserKey } from '../../lib/keys.js'

/** Returns the users among `userIds` whose presence the viewer may see. Called in batches; each result is cached for 10 s. */
export type Visible = (request: { tenantId: Id, viewerId: Id, userIds: Id[] }) => MaybePromise<Iterable<Id>>

const KEPT_MS = 10_000
/** Viewers, and users per viewer, whose results are cached; beyond it the oldest are removed. */
const [MAX_VIEWERS, MAX_USERS] = [10_000, 2000]

type Answers = BoundedMap<Id, { isVisible: boolean, until: number }>

/** Who may see whom, according to the host; without the option everyone may see everyone. */
export class Visibility {
  readonly #internals: Pick<Internals, 'access' | 'clock'>
  readonly #ask: Visible | undefined
  readonly #answers = new BoundedMap<UserKey, Answers>(MAX_VIEWERS)

  constructor (internals: Pick<Internals, 'access' | 'clock'>, ask: Visible | undefined) {
    this.#internals = internals
    this.#ask = ask
  }

  get isLimited (): boolean {
    return this.#ask !== undefined
  }

  /** The users among these whom the caller may see; null: all of them. Host code sees everyone. Rejects with `RT_UNAVAILABLE`. */
  async among (caller: Caller | null, userIds: readonly Id[], { fresh = false } = {}): Promise<ReadonlySet<Id> | null> {
    if (this.#ask === undefined || caller === null) return null
    const { tenantId, userId: viewerId } = caller.identity
    const now = this.#internals.clock.now()
    const answers = this.#answersOf(userKey(tenantId, viewerId))
    const known = (id: Id): boolean => id === viewerId || (!fresh && (answers.get(id)?.until ?? 0) > now)
    const asked = [...new Set(userIds)].filter((id) => !known(id))
    const found = new Set<Id>([viewerId])
    for (const id of userIds) if (known(id) && answers.get(id)?.isVisible === true) found.add(id)
    if (asked.length === 0) return found
    const ask = this.#ask
    const visible = new Set(await this.#internals.access.ask(caller, 'visible', () => ask({ tenantId, viewerId, userIds: asked })))
    for (const id of asked) {
      answers.set(id, { isVisible: visible.has(id), until: now + KEPT_MS })
      if (visible.has(id)) found.add(id)
    }
    return found
  }

  #answersOf (viewer: UserKey): Answers {
    let answers = this.#answers.get(viewer)
    if (answers === undefined) {
      answers = new BoundedMap(MAX_USERS)
      this.#answers.set(viewer, answers)
    }
    return answers
  }
}
