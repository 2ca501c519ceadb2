import type { FastifyBaseLogger } from 'fastify'
import { BoundedMap } from '../../lib/async/bounded-map.js'
import { privateChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey, type ChannelKey } from '../../lib/keys.js'
import type { Activity } from './schemas.js'
import type { ConversationStore } from './store.js'

/** At most one event per conversation in this time, in milliseconds, over all nodes. */
const INTERVAL_MS = 1000
/** Conversations with a message that is not announced to the participants yet. */
const MAX_WAITING = 10_000
/** Milliseconds for which a conversation with too many participants is not checked again. */
const LARGE_MS = 30_000

interface Latest { tenantId: Id, channel: string, messageId: number }

/** Announces new messages to the participants of channel conversations, so that badges change without a subscription. */
export class ActivityAnnouncer {
  readonly #internals: Internals
  readonly #store: ConversationStore
  readonly #upTo: number
  readonly #log: FastifyBaseLogger
  readonly #waiting = new Map<ChannelKey, Latest>()
  /** Conversations that were announced or checked less than an interval ago. */
  readonly #resting = new Map<ChannelKey, NodeJS.Timeout>()
  readonly #large = new BoundedMap<ChannelKey, number>(MAX_WAITING)
  #isClosed = false

  constructor (internals: Internals, store: ConversationStore, upTo: number, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#store = store
    this.#upTo = upTo
    this.#log = log
  }

  /** A message was stored in a channel. */
  add (latest: Latest): void {
    if (this.#upTo === 0 || this.#isClosed) return
    const key = channelKey(latest.tenantId, latest.channel)
    const large = this.#large.get(key)
    if (large !== undefined && performance.now() - large < LARGE_MS) return
    const known = this.#waiting.get(key)
    if (known !== undefined) known.messageId = Math.max(known.messageId, latest.messageId)
    else if (this.#waiting.size < MAX_WAITING) this.#waiting.set(key, { ...latest })
    if (!this.#resting.has(key)) this.#announceSoon(key)
  }

  close (): void {
    this.#isClosed = true
    for (const timer of this.#resting.values()) clearTimeout(timer)
    this.#resting.clear()
    this.#waiting.clear()
  }

  #announceSoon (key: ChannelKey): void {
    this.#resting.set(key, setTimeout(() => {
      this.#resting.delete(key)
      if (this.#waiting.has(key)) this.#announceSoon(key)
    }, INTERVAL_MS).unref())
    this.#announce(key).catch((err: unknown) => { this.#log.debug({ err }, 'Could not announce a message to the participants of a conversation') })
  }

  async #announce (key: ChannelKey): Promise<void> {
    // Another node announced one less than an interval ago: this node waits.
    if (!await this.#internals.roster.lock(`activity:${key}`, INTERVAL_MS).catch(() => true)) return
    const latest = this.#waiting.get(key)
    this.#waiting.delete(key)
    if (latest === undefined || this.#isClosed) return
    const { tenantId, channel, messageId } = latest
    const participants = await this.#store.participants(tenantId, channel, this.#upTo + 1)
    if (participants.length > this.#upTo) {
      this.#large.set(key, performance.now())
      return
    }
    const data: Activity = { channel, messageId, timestamp: toIso(this.#internals.clock.now()) }
    for (const userId of participants) this.#internals.emit({ tenantId, channel: privateChannel(userId), event: 'conversation:activity', data })
  }
}
