import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { rateKey } from '../../lib/keys.js'

export interface SendingSettings {
  /** Durable events of one user; 0: no limit. */
  messagesPerMinute: number
  /** Recipients of the notifications of one user; 0: no limit. */
  recipientsPerMinute: number
}

/** Limits what clients send; host code is exempt. A notification counts once per recipient. */
export class SendingLimits {
  readonly #internals: Pick<Internals, 'sharedRates' | 'tenantLimits'>
  readonly #settings: SendingSettings

  constructor (internals: Pick<Internals, 'sharedRates' | 'tenantLimits'>, settings: SendingSettings) {
    this.#internals = internals
    this.#settings = settings
  }

  /** Counts a durable event. Throws, or rejects with, `RT_RATE_LIMITED`. */
  message (identity: Identity): MaybePromise<void> {
    const { sharedRates, tenantLimits } = this.#internals
    sharedRates.take(rateKey('messages', identity), 1, this.#settings.messagesPerMinute)
    return tenantLimits.countMessage(identity.tenantId)
  }

  /** Counts a notification, which is sent to all of its recipients or to none. Throws, or rejects with, `RT_RATE_LIMITED`. */
  notification (identity: Identity, recipients: number): MaybePromise<void> {
    const { sharedRates, tenantLimits } = this.#internals
    sharedRates.take(rateKey('recipients', identity), recipients, this.#settings.recipientsPerMinute)
    return tenantLimits.countMessage(identity.tenantId)
  }
}
