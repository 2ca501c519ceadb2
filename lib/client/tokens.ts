import { ClientError, toClientError } from './errors.js'

/** A text, or what is asked for a new one each time. */
export type TokenSource = string | (() => string | Promise<string>)

/** The credentials: asked for anew before each attempt, so that a client that slept does not come with an old one. */
export class Tokens {
  #source: TokenSource | undefined
  #current: string | undefined
  #refused: string | undefined

  constructor (source: TokenSource | undefined) {
    this.#source = source
    if (typeof source === 'string') this.#current = source
  }

  /** Undefined: none, the host reads cookies. */
  get current (): string | undefined {
    return this.#current
  }

  /** Nothing but the application can bring another. */
  get isFixed (): boolean {
    return typeof this.#source !== 'function'
  }

  /** The server has said no to this one: it is not shown again. */
  get isRefused (): boolean {
    return this.#refused !== undefined && this.#current === this.#refused
  }

  set (source: TokenSource): void {
    this.#source = source
  }

  refuse (): void {
    this.#refused = this.#current
  }

  /** Rejects with `RT_TOKEN_FAILED`. */
  async fresh (): Promise<string | undefined> {
    try {
      this.#current = typeof this.#source === 'function' ? await this.#source() : this.#source
    } catch (err) {
      throw toClientError(err, 'RT_TOKEN_FAILED')
    }
    if (this.#source !== undefined && (typeof this.#current !== 'string' || this.#current === '')) {
      throw new ClientError('RT_TOKEN_FAILED', 'The token function gave no token')
    }
    return this.#current
  }
}
