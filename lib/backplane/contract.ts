import type { ChannelKey } from '../keys.js'


/** One encoded event on its way to the members of a channel. */
export interface OutgoingEvent {
  /** The WebSocket payload, UTF-8 JSON. Encoded once in the cluster. */
  payload: Buffer
  /** The durable event's id; 0 for an ephemeral one, which a slow reader may lose. */
  messageId: number
  /** The connection that must not get it (it sent it). */
  excludeConnectionId: string | null
  /** Sent again on purpose (not yet confirmed): passes where a repeated id is otherwise dropped. */
  isRetry: boolean
}

/** Nothing to wait for: known by its identity, so that no message of a single process waits for a promise. */
export const PUBLISHED: Promise<void> = Promise.resolve()

export interface BackplaneHandlers {
  /** Frames of one channel, in the order in which every node gets them. */
  onEvents (key: ChannelKey, frames: OutgoingEvent[]): void
  /** This node may have missed frames of channels it is subscribed to: read them from the log. */
  onGap (keys: ChannelKey[]): void
  /** Everything published up to `sentAt` (`performance.now()` of this node) on any node has been delivered here. */
  onProbe (sentAt: number): void
  /** A question from another node; what it resolves to is the answer, an error thrown crosses as its code. */
  onRequest (op: string, data: unknown): Promise<unknown>
  /** Other nodes can be reached again. */
  onReconnected (): void
}

/**
 * What carries frames between the nodes. Obligations of every implementation (test/backplane.test.ts runs over all):
 *
 * - `publish` always reaches this node's own `deliver`, also while the others cannot be reached; frames of one channel
 *   in the order of the calls. It resolves once every node that can hear it was handed the frame, and rejects where
 *   that is not known: the caller keeps the event and publishes it again. Where it is so at once it may answer `PUBLISHED`.
 * - `publishLocally` reaches this node's own `deliver` alone, after everything published before it.
 * - `subscribe` resolves when frames published anywhere from then on are delivered here; null: they are already.
 * - `unsubscribe` right after or before `subscribe` of the same channel is safe: the last call wins.
 * - `ask` rejects when the node does not answer within its time.
 */
export interface Backplane {
  /** Boot id of this node: a restarted process is another node. */
  readonly nodeId: string
  /** False while other nodes cannot be reached. */
  readonly healthy: boolean
  start (handlers: BackplaneHandlers): Promise<void>
  publish (key: ChannelKey, frame: OutgoingEvent): Promise<void>
  publishLocally (key: ChannelKey, frame: OutgoingEvent): void
  /** False: nobody hears this channel, on any node, and nothing need be encoded for it. */
  mayHaveSubscribers (key: ChannelKey): boolean
  subscribe (key: ChannelKey): Promise<void> | null
  unsubscribe (key: ChannelKey): void
  call (nodeId: string, op: string, data: unknown): Promise<unknown>
  /** Sends what is queued, then lets go of the connections it opened. */
  close (): Promise<void>
}
