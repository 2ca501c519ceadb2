import { randomBytes } from 'node:crypto'

/** Canaries that are waited for at the same time. */
const MAX_SENT = 30
/** Published and not heard back in a row: nothing is heard at all, or everything but the canaries. */
const DEAF = 3
const HALF_DEAF = 15

/**
 * A message of a node to itself, again and again: it tells a subscription that died silently from a quiet one. Counted
 * are those that Redis took: while it takes none, nothing can be said about hearing.
 */
export class Canary {
  readonly #send: (text: string) => Promise<void>
  /** Not to be guessed: whoever could forge a canary could have this node believe that it missed nothing. */
  readonly #name = `!${randomBytes(9).toString('base64url')}:`
  readonly #sent = new Map<number, number>()
  #last = 0
  #unheard = 0
  #heardOthers = false

  constructor (send: (text: string) => Promise<void>) {
    this.#send = send
  }

  /** The subscription is dead, as far as can be told. */
  get isDeaf (): boolean {
    return this.#unheard >= (this.#heardOthers ? HALF_DEAF : DEAF)
  }

  fly (): void {
    const n = ++this.#last
    this.#sent.set(n, performance.now())
    this.#sent.delete(n - MAX_SENT)
    this.#send(`${this.#name}${n}`).then(() => { if (this.#sent.has(n)) this.#unheard++ }, () => { this.#sent.delete(n) })
  }

  /** Another message came in by the same subscription. */
  heardOther (): void {
    if (this.#unheard > 0) this.#heardOthers = true
  }

  /** When this canary of ours was sent, by `performance.now()`; null: it is not one that is waited for. */
  returned (text: string): number | null {
    const n = text.startsWith(this.#name) ? Number(text.slice(this.#name.length)) : NaN
    const sentAt = this.#sent.get(n)
    if (sentAt === undefined) return null
    for (const older of this.#sent.keys()) if (older <= n) this.#sent.delete(older)
    this.#unheard = 0
    this.#heardOthers = false
    return sentAt
  }

  /** The subscription was made anew. */
  restart (): void {
    this.#sent.clear()
    this.#unheard = 0
    this.#heardOthers = false
  }
}

/** Whether a text for a node is a canary; mail is JSON. */
export const isCanary = (text: string): boolean => text.startsWith('!')
