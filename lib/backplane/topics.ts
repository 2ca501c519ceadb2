import type { ChannelKey } from '../keys.js'
import type { OutgoingEvent } from './contract.js'
import { sealFrames, sealText } from './envelope.js'
import type { Publication } from './redis-pub-sub.js'
import type { Signer } from './signer.js'

/** The names of topics and counters, and what is published to them. */
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

  counter (key: ChannelKey): string {
    return `${this.#prefix}sequence:{${key}}`
  }

  node (nodeId: string): string {
    return `${this.#prefix}node:${nodeId}`
  }

  /** The channel of a topic; null for a node's. */
  keyOf (topic: string): ChannelKey | null {
    const name = topic.slice(this.#prefix.length)
    return name.startsWith('channel:') ? name.slice('channel:{'.length, -1) as ChannelKey : null
  }

  /** Numbered where somebody would read the log for it, were it lost. */
  frames (key: ChannelKey, frames: readonly OutgoingEvent[]): Publication {
    const topic = this.channel(key)
    const numbered = frames.some(({ messageId }) => messageId > 0)
    return { counter: numbered ? this.counter(key) : null, topic, message: sealFrames(frames, topic, numbered, this.#signer) }
  }

  text (nodeId: string, text: string): Publication {
    const topic = this.node(nodeId)
    return { counter: null, topic, message: sealText(text, topic, this.#signer) }
  }
}
