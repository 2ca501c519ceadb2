import type { MaybePromise } from '../async/maybe-promise.js'
import type { ChannelKey } from '../keys.js'

/** An encoded event for the members of a channel. */
export interface OutgoingEvent {
  /** The WebSocket payload, UTF-8 JSON. Encoded once in the cluster. */
  payload: Buffer
  /** The id of a durable event; 0 for an ephemeral one, which is dropped for slow readers. */
  messageId: number
  /** The connection that sent it and does not get it. */
  excludeConnectionId: string | null
  /** It is sent again because it was not confirmed: not dropped as a duplicate. */
  isRetry: boolean
  /** The users that the event is about, separated by commas. On the `presence` channel, those who watch the user get it too. */
  about?: string | undefined
  /** Connections of these users get the event without themselves in `data.joined`, or not at all without such a list. */
  withoutSelf?: boolean | undefined
}

export interface BackplaneHandlers {
  /** Events of one channel, in the same order on every node. */
  onEvents (key: ChannelKey, events: OutgoingEvent[]): void
  /** This node may have missed events of these channels: read them from the log. */
  onGap (keys: ChannelKey[]): void
  /** Everything that any node published before `sentAt` (`performance.now()` of this node) has been delivered here. */
  onProbe (sentAt: number): void
  /** A request from another node. Resolves with the response; of an error, code and message are sent back. */
  onRequest (op: string, data: unknown): Promise<unknown>
  /** Other nodes can be reached again. */
  onReconnected (): void
}

/**
 * Carries events between nodes. Every implementation guarantees the following; test/backplane.test.ts checks all of them.
 * "Locally" means by this node's `onEvents`.
 */
export interface Backplane {
  /** New at every start of the process. */
  readonly nodeId: string
  /** False while other nodes cannot be reached. */
  readonly healthy: boolean
  start (handlers: BackplaneHandlers): Promise<void>
  /**
   * Always delivers locally, even while other nodes cannot be reached, and keeps the order of calls within a channel.
   * Resolves when every node with subscribers has the event; returns undefined if that is so at once. Rejects if it is not
   * known: the caller keeps the event and publishes it again. No promise per event in a single process (bench rows "fan-out under
   * load", "direct messages, durable").
   */
  publish (key: ChannelKey, event: OutgoingEvent): MaybePromise<void>
  /** Delivers locally alone, after everything that was published before. */
  publishLocally (key: ChannelKey, event: OutgoingEvent): void
  /** False if the channel has no subscriber on any node, so that nothing needs to be encoded for it. */
  mayHaveSubscribers (key: ChannelKey): boolean
  /** Resolves when everything that is published from then on, on any node, is delivered locally; undefined: it is already (bench row "connect"). */
  subscribe (key: ChannelKey): MaybePromise<void>
  /** May be called right before or after `subscribe` of the same channel: the last call wins. */
  unsubscribe (key: ChannelKey): void
  /** Rejects with `RT_NOT_FOUND` if the node does not respond in time. */
  call (nodeId: string, op: string, data: unknown): Promise<unknown>
  /** Sends what is queued, then releases the connections that it opened. */
  close (): Promise<void>
}
