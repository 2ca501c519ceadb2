import { RealtimeError } from '../errors.js'
import type { ChannelKey } from '../keys.js'
import type { Backplane, BackplaneHandlers, OutgoingEvent } from './contract.js'

/** The backplane of a single process: delivers locally. */
export class MemoryBackplane implements Backplane {
  readonly nodeId: string
  readonly healthy = true
  readonly #subscribed = new Set<ChannelKey>()
  #handlers: BackplaneHandlers | null = null

  constructor (nodeId: string) {
    this.nodeId = nodeId
  }

  async start (handlers: BackplaneHandlers): Promise<void> {
    this.#handlers = handlers
  }

  publish (key: ChannelKey, event: OutgoingEvent): void {
    this.publishLocally(key, event)
  }

  publishLocally (key: ChannelKey, event: OutgoingEvent): void {
    if (this.#subscribed.has(key)) this.#handlers?.onEvents(key, [event])
  }

  mayHaveSubscribers (key: ChannelKey): boolean {
    return this.#subscribed.has(key)
  }

  subscribe (key: ChannelKey): void {
    this.#subscribed.add(key)
  }

  unsubscribe (key: ChannelKey): void {
    this.#subscribed.delete(key)
  }

  async call (nodeId: string, op: string, data: unknown): Promise<unknown> {
    if (nodeId !== this.nodeId || this.#handlers === null) throw new RealtimeError('RT_NOT_FOUND', 'That node is gone')
    return await this.#handlers.onRequest(op, data)
  }

  async close (): Promise<void> {
    this.#handlers = null
  }
}
