interface Row { code: number, meaning: string, reconnect: 'no' | 'now' | 'later' | 'with a new token' }

/**
 * The close codes: what each means, and whether a client should reconnect. `now` and `later` with jitter, `later` not within
 * the first seconds. The tables in the documentation and the rules of the client are tested against this one.
 */
export const closeCodes = {
  disconnected: { code: 4000, meaning: 'disconnected by request', reconnect: 'no' },
  replaced: { code: 4001, meaning: 'another connection took its place', reconnect: 'no' },
  tooSlow: { code: 4008, meaning: 'reads too slowly', reconnect: 'now' },
  badFrames: { code: 4400, meaning: 'too many invalid frames', reconnect: 'no' },
  unauthenticated: { code: 4401, meaning: 'not authenticated, too late, or the credentials expired or were revoked', reconnect: 'with a new token' },
  forbidden: { code: 4403, meaning: 'origin not allowed, or banned', reconnect: 'no' },
  flooding: { code: 4429, meaning: 'keeps sending after RT_RATE_LIMITED', reconnect: 'later' },
  tooBig: { code: 1009, meaning: 'frame too big', reconnect: 'no' },
  restarting: { code: 1012, meaning: 'this node restarts', reconnect: 'now' },
  overloaded: { code: 1013, meaning: 'overloaded, or the host cannot authenticate now', reconnect: 'later' }
} as const satisfies Record<string, Row>

type CloseCodes = { readonly [Name in keyof typeof closeCodes]: typeof closeCodes[Name]['code'] }

/** The close codes by name. Their meanings are in the documentation of the protocol. */
export const CloseCode = Object.fromEntries(Object.entries(closeCodes).map(([name, { code }]) => [name, code])) as CloseCodes
export type CloseCode = CloseCodes[keyof CloseCodes]
