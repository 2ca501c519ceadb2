import { randomBytes } from 'node:crypto'

/** Probes that are awaited at the same time. */
const MAX_SENT = 30
/** Published probes in a row that did not arrive before the subscription counts as dead: without other messages, and with. */
const MAX_MISSED = 3
const MAX_MISSED_BESIDE_OTHERS = 15

/**
 * Messages that a node sends to itself, to notice a subscription that is dead without an error. Only probes that Redis accepted
 * count: while Redis is away they say nothing about the subscription.
 */
export class Probe {
  readonly #send: (text: string) => Promise<void>
  /** Random, because a forged probe could make this node believe that it missed nothing. */
  readonly #name = `!${randomBytes(9).toString('base64url')}:`
  readonly #sent = new Map<number, number>()
  #last = 0
  #missed = 0
  #hasOthers = false

  constructor (send: (text: string) => Promise<void>) {
    this.#send = send
  }

  /** The subscription seems to be dead. */
  get isDead (): boolean {
    return this.#missed >= (this.#hasOthers ? MAX_MISSED_BESIDE_OTHERS : MAX_MISSED)
  }

  send (): void {
    const n = ++this.#last
    this.#sent.set(n, performance.now())
    this.#sent.delete(n - MAX_SENT)
    this.#send(`${this.#name}${n}`).then(() => { if (this.#sent.has(n)) this.#missed++ }, () => { this.#sent.delete(n) })
  }

  /** Another message arrived through the same subscription. */
  noteOther (): void {
    if (this.#missed > 0) this.#hasOthers = true
  }

  /** When this probe was sent, by `performance.now()`; null if it is not an awaited probe of this node. */
  receive (text: string): number | null {
    const n = text.startsWith(this.#name) ? Number(text.slice(this.#name.length)) : NaN
    const sentAt = this.#sent.get(n)
    if (sentAt === undefined) return null
    for (const older of this.#sent.keys()) if (older <= n) this.#sent.delete(older)
    this.#missed = 0
    this.#hasOthers = false
    return sentAt
  }

  /** To be called after a new subscription. */
  restart (): void {
    this.#sent.clear()
    this.#missed = 0
    this.#hasOthers = false
  }
}

/** Whether a text for a node is a probe; calls are JSON. */
export const isProbe = (text: string): boolean => text.startsWith('!')
