import { FairQueue } from '../async/fair-queue.js'
import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import { RealtimeError } from '../errors.js'
import type { Identity } from '../identity.js'

/** The owner of a call of a host function. */
export interface Asker {
  /** The connection or the response. When it is gone, `release` frees its places. */
  owner: object
  /** The tenant, or the address of an unauthenticated client: they are served in turn. */
  tenant: string | number
  /** The user or the address, which has at most its share of the places; null: no limit. */
  holder: string | null
  /** One call at a time. If the wait is too long the error is `RT_RATE_LIMITED` instead of `RT_UNAVAILABLE`. */
  suspect?: boolean
  /** The identity of the caller, if it is known already. */
  identity?: Identity
}

export interface HostCallsOptions {
  places: number
  /** In milliseconds. */
  timeout: number
  /** The error if the identity was banned or revoked while the call ran, or null. */
  refusal?: (identity: Identity) => RealtimeError | null
  /** Called with the owner of each call that does not return at once. */
  onWaiting?: (owner: object) => void
}

interface Call {
  readonly asker: Asker
  start (): void
  /** Frees the place or leaves the queue, and rejects. Does nothing after the call has settled. */
  giveUp (err: Error): void
}

/** Maximum share of the places for one holder. */
const SHARE = 0.1

/** The error if the host did not respond, which is not a decision: clients keep their state and retry, spread over some seconds. */
export const notNow = (cause?: unknown): RealtimeError =>
  new RealtimeError('RT_UNAVAILABLE', undefined, { retryAfter: 1 + Math.floor(Math.random() * 5), cause })

/**
 * Calls host functions of one kind, at most `places` at the same time: after a deploy all clients reconnect together, and must
 * not overload the host's database. A call that takes longer than `timeout`, including its wait, rejects with `RT_UNAVAILABLE`
 * and frees its place, as does one whose owner is gone. So a host function that never responds blocks others only for a while.
 * A synchronous host function needs no promise and no place (bench rows "connect", "direct messages, durable").
 */
export class HostCalls {
  readonly #places: number
  readonly #share: number
  readonly #timeout: number
  readonly #refusal: (identity: Identity) => RealtimeError | null
  readonly #onWaiting: (owner: object) => void
  readonly #waiting = new FairQueue<Call>()
  readonly #held = new Map<string, number>()
  /** Suspect holders that occupy their only place. */
  readonly #suspects = new Set<string>()
  readonly #byOwner = new Map<object, Set<Call>>()
  #running = 0

  constructor ({ places, timeout, refusal = () => null, onWaiting = () => {} }: HostCallsOptions) {
    this.#places = places
    this.#refusal = refusal
    this.#onWaiting = onWaiting
    this.#share = Math.max(1, Math.floor(places * SHARE))
    this.#timeout = timeout
  }

  /** Number of running calls. */
  get running (): number {
    return this.#running
  }

  get waiting (): number {
    return this.#waiting.size
  }

  /** Throws, or rejects with, the error of the function, or `RT_UNAVAILABLE`. */
  run<T> (asker: Asker, call: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#running < this.#places && (this.#running === 0 || this.#mayStart(asker.holder, asker.suspect))) {
      const answer = call()
      if (!isPromise(answer)) return answer
      return this.#follow(asker, () => answer, true)
    }
    return this.#follow(asker, call, false)
  }

  /** The owner is gone: releases its places. */
  release (owner: object): void {
    const calls = this.#byOwner.get(owner)
    if (calls === undefined) return
    this.#byOwner.delete(owner)
    for (const call of calls) call.giveUp(notNow())
  }

  #mayStart (holder: string | number | null, isSuspect = false): boolean {
    return holder === null || (this.#held.get(String(holder)) ?? 0) < (isSuspect ? 1 : this.#share)
  }

  /** An asynchronous call: it has a place, or waits for one. */
  #follow<T> (asker: Asker, begin: () => MaybePromise<T>, started: boolean): Promise<T> {
    const { owner, tenant, holder, suspect = false } = asker
    this.#onWaiting(owner)
    const queueHolder = holder ?? ''
    return new Promise<T>((resolve, reject) => {
      let state: 'waiting' | 'running' | 'over' = 'waiting'
      const onTimeout = (): void => {
        call.giveUp(suspect && state === 'waiting'
          ? new RealtimeError('RT_RATE_LIMITED', 'Too many failed logins from this address', { retryAfter: Math.ceil(this.#timeout / 1000) })
          : notNow(new Error(`no answer within ${this.#timeout} ms`)))
      }
      let timer = setTimeout(onTimeout, this.#timeout)
      const end = (): void => {
        clearTimeout(timer)
        const calls = this.#byOwner.get(owner)
        calls?.delete(call)
        if (calls?.size === 0) this.#byOwner.delete(owner)
        const held = state === 'running'
        if (!held) this.#waiting.remove(tenant, queueHolder, call)
        state = 'over'
        if (held) this.#leave(holder)
      }
      const call: Call = {
        asker,
        start: () => {
          state = 'running'
          this.#running++
          if (suspect && holder !== null) {
            this.#suspects.add(holder)
            // The timeout starts again: if it included the wait, this call could be given up right after its start, and the next one would run beside it.
            clearTimeout(timer)
            timer = setTimeout(onTimeout, this.#timeout)
          }
          if (holder !== null) this.#held.set(holder, (this.#held.get(holder) ?? 0) + 1)
          let answer: MaybePromise<T>
          try {
            answer = begin()
          } catch (err) {
            end()
            reject(toError(err))
            return
          }
          // A host's promise may come from any library. After the timeout it is ignored.
          Promise.resolve(answer).then((value) => {
            if (state !== 'running') return
            end()
            const refused = asker.identity === undefined ? null : this.#refusal(asker.identity)
            if (refused === null) resolve(value)
            else reject(refused)
          }, (err: unknown) => {
            if (state !== 'running') return
            end()
            reject(toError(err))
          })
        },
        giveUp: (err) => {
          if (state === 'over') return
          end()
          reject(err)
        }
      }
      const calls = this.#byOwner.get(owner)
      if (calls === undefined) this.#byOwner.set(owner, new Set([call]))
      else calls.add(call)
      if (started) call.start()
      else this.#waiting.push(tenant, queueHolder, call)
    })
  }

  #leave (holder: string | null): void {
    this.#running--
    if (holder !== null) {
      const held = (this.#held.get(holder) ?? 1) - 1
      if (held > 0) this.#held.set(holder, held)
      else this.#held.delete(holder)
      if (held <= 0) this.#suspects.delete(holder)
    }
    while (this.#running < this.#places) {
      const next = this.#waiting.take((waiting) => this.#mayStart(waiting === '' ? null : waiting, this.#suspects.has(String(waiting))))
      if (next === undefined) return
      next.start()
    }
  }
}

/** A host may throw anything. */
const toError = (thrown: unknown): Error => thrown instanceof Error ? thrown : new Error(String(thrown))
