import { RealtimeError } from '../errors.js'
import type { ChannelKey } from '../channels.js'
import { HANDED, type Backplane, type BackplaneHandlers, type Frame } from './contract.js'

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

  publish (key: ChannelKey, frame: Frame): Promise<void> {
    this.publishHere(key, frame)
    return HANDED
  }

  publishHere (key: ChannelKey, frame: Frame): void {
    if (this.#subscribed.has(key)) this.#handlers?.deliver(key, [frame])
  }

  mayHear (key: ChannelKey): boolean {
    return this.#subscribed.has(key)
  }

  subscribe (key: ChannelKey): null {
    this.#subscribed.add(key)
    return null
  }

  unsubscribe (key: ChannelKey): void {
    this.#subscribed.delete(key)
  }

  async ask (nodeId: string, op: string, data: unknown): Promise<unknown> {
    if (nodeId !== this.nodeId || this.#handlers === null) throw new RealtimeError('RT_NOT_FOUND', 'That node is gone')
    return await this.#handlers.asked(op, data)
  }

  async close (): Promise<void> {
    this.#handlers = null
  }
}
