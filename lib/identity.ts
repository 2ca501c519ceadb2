import type { Id, IdKind, Ids } from './ids.js'

/** Who is calling, as the host's `authenticate` verified it. The tenant is never taken from anywhere else. */
export interface Identity {
  tenantId: Id
  userId: Id
  name?: string
  /** When the credentials end, as a Date or in milliseconds since 1970; absent or null: never. */
  expiresAt?: Date | number | null
  /** When the credentials were issued, as a Date or in milliseconds since 1970; absent: when they were presented. See `access.revoke`. */
  issuedAt?: Date | number | null
  /** Names these credentials (a JWT's `jti`, a session id), so that `access.revoke` can end them. */
  tokenId?: string | null
  /** Any value, for use in `authorize`. */
  claims?: unknown
}

/** The user behind a REST request (without a connection) or a frame (with one). */
export interface Caller {
  identity: Identity
  connectionId: string | null
  /** The connection or HTTP response that waits for host functions. Its calls are released when it closes. */
  owner: object
}

/** When the credentials end, in milliseconds since 1970; Infinity: never. */
export const expiryOf = ({ expiresAt }: Identity): number =>
  expiresAt === undefined || expiresAt === null ? Infinity : Number(expiresAt)

/** Characters of a string id. */
const MAX_LENGTH = 64
/** The largest time that a Date can hold. */
const LAST_TIME = 8.64e15

/** The first invalid field of an identity, and the problem with it. Null for a valid identity. */
export function mistakeIn (identity: unknown, ids: Ids): { field: string, problem: string } | null {
  if (typeof identity !== 'object' || identity === null) return { field: 'identity', problem: `is ${kindOf(identity)}, not an object` }
  const { tenantId, userId, expiresAt, issuedAt, tokenId } = identity as Partial<Record<keyof Identity, unknown>>
  if (!ids.isId(tenantId)) return { field: 'tenantId', problem: notAnId(tenantId, ids) }
  if (!ids.isId(userId)) return { field: 'userId', problem: notAnId(userId, ids) }
  if (!isTimeOrNone(expiresAt)) return { field: 'expiresAt', problem: `is ${kindOf(expiresAt)}, not a Date or milliseconds since 1970` }
  if (!isTimeOrNone(issuedAt)) return { field: 'issuedAt', problem: `is ${kindOf(issuedAt)}, not a Date or milliseconds since 1970` }
  if (tokenId !== undefined && tokenId !== null && typeof tokenId !== 'string') return { field: 'tokenId', problem: `is ${kindOf(tokenId)}, not a text` }
  return null
}

const notAnId = (value: unknown, { kind, description }: Ids): string => `is ${describe(value, kind)}, and the option ids is '${kind}': give ${description}`

/** Describes a value that is not an id of this kind, without containing it. */
function describe (value: unknown, kind: IdKind): string {
  if (kind === 'integer') return kindOf(value)
  if (typeof value === 'number') return 'a number'
  return typeof value === 'string' ? describeText(value) : kindOf(value)
}

/** Describes a text that is not an id, without containing it. */
function describeText ({ length }: string): string {
  return length === 0 ? 'an empty string' : length > MAX_LENGTH ? `a string of ${length} characters` : 'a string with other characters'
}

/** A Date or milliseconds since 1970. */
export const isTime = (value: unknown): value is Date | number =>
  (typeof value === 'number' || value instanceof Date) && Math.abs(Number(value)) <= LAST_TIME

const isTimeOrNone = (value: unknown): boolean => value === undefined || value === null || isTime(value)

/** Describes a value without containing it: it may be a secret. */
function kindOf (value: unknown): string {
  if (value === undefined || value === null || Number.isNaN(value)) return String(value)
  if (value instanceof Date) return 'an invalid Date'
  if (typeof value === 'number') return Number.isFinite(value) ? Number.isInteger(value) ? 'a number out of range' : 'a fraction' : String(value)
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
