import { RealtimeError } from '../errors.js'
import type { ChannelKey } from '../keys.js'
import { PUBLISHED, type Backplane, type BackplaneHandlers, type OutgoingEvent } from './contract.js'

/** The backplane of one process: an echo. */
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

  publish (key: ChannelKey, frame: OutgoingEvent): Promise<void> {
    this.publishLocally(key, frame)
    return PUBLISHED
  }

  publishLocally (key: ChannelKey, frame: OutgoingEvent): void {
    if (this.#subscribed.has(key)) this.#handlers?.onEvents(key, [frame])
  }

  mayHaveSubscribers (key: ChannelKey): boolean {
    return this.#subscribed.has(key)
  }

  subscribe (key: ChannelKey): null {
    this.#subscribed.add(key)
    return null
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
