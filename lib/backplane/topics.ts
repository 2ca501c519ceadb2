import type { ChannelKey } from '../keys.js'
import type { OutgoingEvent } from './contract.js'
import { sealEvents, sealText } from './envelope.js'
import type { Publication } from './redis-pub-sub.js'
import type { Signer } from './signer.js'

/** Names of topics and counters, and the messages for topics. */
export class Topics {
  readonly #prefix: string
  readonly #signer: Signer

  constructor (prefix: string, signer: Signer) {
    this.#prefix = prefix
    this.#signer = signer
  }

  /** The braces keep a channel's topic and its counter on one shard of a cluster. */
  channel (key: ChannelKey): string {
    return `${this.#prefix}channel:{${key}}`
  }

  channels (keys: readonly ChannelKey[]): string[] {
    return keys.map((key) => this.channel(key))
  }

  counter (key: ChannelKey): string {
    return `${this.#prefix}sequence:{${key}}`
  }

  node (nodeId: string): string {
    return `${this.#prefix}node:${nodeId}`
  }

  /** The channel of a topic; null for the topic of a node. */
  keyOf (topic: string): ChannelKey | null {
    const name = topic.slice(this.#prefix.length)
    return name.startsWith('channel:') ? name.slice('channel:{'.length, -1) as ChannelKey : null
  }

  /** A message is numbered if it has a durable event, because only durable events can be read again after a loss. */
  events (key: ChannelKey, events: readonly OutgoingEvent[]): Publication {
    const topic = this.channel(key)
    const isNumbered = events.some(({ messageId }) => messageId > 0)
    return { counter: isNumbered ? this.counter(key) : null, topic, message: sealEvents(events, topic, isNumbered, this.#signer) }
  }

  text (nodeId: string, text: string): Publication {
    const topic = this.node(nodeId)
    return { counter: null, topic, message: sealText(text, topic, this.#signer) }
  }
}
