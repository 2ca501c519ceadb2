/** `hasWarned`: a failed attempt to subscribe was logged since the node was last connected. */
export type ConnectionState =
  /** Everything is subscribed. */
  | { name: 'connected' }
  /** The connection of the subscriptions is lost. */
  | { name: 'disconnected', hasWarned: boolean }
  /** Subscriptions are being made again, or will be after a failed attempt. */
  | { name: 'resubscribing', hasWarned: boolean }

export const hasWarned = (state: ConnectionState): boolean => state.name !== 'connected' && state.hasWarned
