import { attempt, type AttemptParts, type Session } from './attempt.js'
import type { BackOff } from './backoff.js'
import { Pause } from './clock.js'
import type { ClientError } from './errors.js'
import type { Closed } from './link.js'
import { randomId } from './outbox.js'
import { outcomeOfClose, type Outcome } from './outcome.js'

/** Milliseconds from one attempt to the next, whatever the server, the network or the page does: a second, and what networks sway. */
const SPACING = 1250
/** Sockets that never opened, one after the other, while REST answers: something on the way refuses them. */
const BLOCKED_AFTER = 2

interface Hooks {
  opened (session: Session): void
  closed (closed: Closed, willReconnect: boolean): void
  /** REST answers and sockets do not open. True: there is another way, and such attempts do not count. */
  blocked (userId: number): boolean
  retrying (attempt: number, delay: number): void
  failed (err: ClientError): void
  /** No further attempts. Null: as many were made as allowed. */
  ended (err: ClientError | null): void
}

/** Opens a socket and opens it again, as often as its close codes and the back-off allow. */
export class Connector {
  readonly parts: AttemptParts
  readonly #hooks: Hooks
  readonly #backOff: BackOff
  readonly #maxAttempts: number
  readonly #pause: Pause
  #run: symbol | null = null
  #attemptedAt = -Infinity
  #blocked = 0
  session: Session | null = null

  constructor (parts: AttemptParts, backOff: BackOff, maxAttempts: number, hooks: Hooks) {
    this.parts = parts
    this.#backOff = backOff
    this.#maxAttempts = maxAttempts
    this.#hooks = hooks
    this.#pause = new Pause(parts.clock)
  }

  get isRunning (): boolean {
    return this.#run !== null
  }

  start (): void {
    this.#backOff.attempts = 0
    this.#blocked = 0
    void this.#loop(this.#run = Symbol('run'))
  }

  /** Nothing is heard of it any more. */
  stop (): void {
    this.#run = null
    this.#pause.end()
    this.session?.link.close(1000, '')
    this.session = null
  }

  /** Now is a good moment: not all who share a network come back in the same instant, though. */
  wake (): void {
    const run = this.#run
    this.parts.clock.setTimeout(() => { if (this.#run === run) this.#pause.end() }, this.parts.clock.random() * 500)
  }

  async #loop (run: symbol): Promise<void> {
    const { clock } = this.parts
    while (this.#run === run) {
      for (let wait = 1; wait > 0 && this.#run === run;) {
        wait = this.#attemptedAt + SPACING - clock.now()
        if (wait > 0) await this.#pause.wait(wait)
      }
      if (this.#run !== run) return
      this.#attemptedAt = clock.now()
      const outcome = await this.#live(run)
      if (this.#run !== run || outcome === null) return
      await this.#after(outcome)
    }
  }

  /** One attempt, and the life of its socket. Null: stopped meanwhile. */
  async #live (run: symbol): Promise<Outcome | null> {
    let session: Session
    try {
      session = await attempt(this.parts)
    } catch (thrown) {
      const outcome = thrown as Outcome
      if (this.#run !== run) return null
      this.#attemptedAt = this.parts.clock.now()
      if (outcome.then !== 'never') this.#hooks.failed(outcome.error)
      return outcome
    }
    if (this.#run !== run) {
      session.link.close(1000, '')
      return null
    }
    this.#blocked = 0
    this.#backOff.opened()
    this.session = session
    this.#hooks.opened(session)
    const closed = await session.link.closed
    if (this.#run !== run) return null
    this.session = null
    this.#backOff.closed()
    const outcome = outcomeOfClose(closed, this.parts.tokens)
    this.#hooks.closed(closed, outcome.then !== 'never')
    return outcome
  }

  /** What a failure leads to: the end, or a pause. */
  async #after ({ then, error, blocked }: Outcome): Promise<void> {
    if (then === 'never') {
      this.#end(error)
      return
    }
    if (error.code === 'RT_CONNECTION_TAKEN') this.parts.connectionId = randomId()
    this.#blocked = blocked === null ? 0 : this.#blocked + 1
    const enough = this.parts.WebSocket === undefined ? 1 : BLOCKED_AFTER
    const otherWay = blocked !== null && this.#blocked >= enough && this.#hooks.blocked(blocked.userId)
    if (!otherWay && this.#backOff.attempts >= this.#maxAttempts) {
      this.#end(null)
      return
    }
    const delay = Math.round(this.#backOff.next({ later: then === 'later', retryAfter: error.retryAfter }))
    this.#hooks.retrying(this.#backOff.attempts, delay)
    await this.#pause.wait(delay)
  }

  #end (err: ClientError | null): void {
    this.#run = null
    this.#hooks.ended(err)
  }
}
