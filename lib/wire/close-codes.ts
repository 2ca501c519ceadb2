/** What closes a socket, and what the client should do then. */
export const CloseCode = {
  /** Disconnected by request: stay away. */
  disconnected: 4000,
  /** Another connection took its place: stay away. */
  replaced: 4001,
  /** Reads too slowly: come back and resume. */
  tooSlow: 4008,
  /** Too many invalid frames: fix it. */
  badFrames: 4400,
  /** Not authenticated, too late, or the token expired: get a new token first. */
  unauthenticated: 4401,
  /** Origin not allowed, or banned: stay away. */
  forbidden: 4403,
  /** Floods after being told: come back later. */
  flooding: 4429,
  /** Frame too big: fix it. */
  tooBig: 1009,
  /** This node restarts: come back, with jitter, and resume. */
  restarting: 1012,
  /** Overloaded: come back later, with jitter. */
  overloaded: 1013
} as const
export type CloseCode = typeof CloseCode[keyof typeof CloseCode]
