import type { Id, IdKind, Ids } from './ids.js'

/** Who is calling, as the host's `authenticate` verified it. The tenant is never taken from anywhere else. */
export interface Identity {
  tenantId: Id
  userId: Id
  name?: string
  /** When the credentials end, as a Date or in milliseconds since 1970; absent or null: never. */
  expiresAt?: Date | number | null
  /** When the credentials were issued, as a Date or in milliseconds since 1970; absent: when they were shown. See `access.revoke`. */
  issuedAt?: Date | number | null
  /** Names these credentials (a JWT's `jti`, a session id), so that `access.revoke` can end them. */
  tokenId?: string | null
  /** Whatever the host wants to find again in `authorize`. */
  claims?: unknown
}

/** Who does something, through whichever face: a REST request has no connection, a frame has one. */
export interface Caller {
  identity: Identity
  connectionId: string | null
  /** What waits for host functions: the connection, or the HTTP response. Its places are free when it is gone. */
  owner: object
}

/** When the credentials end, in milliseconds since 1970; Infinity: never. */
export const expiryOf = ({ expiresAt }: Identity): number =>
  expiresAt === undefined || expiresAt === null ? Infinity : Number(expiresAt)

/** Characters of a string id. */
const MAX_LENGTH = 64
/** The largest time that a Date can hold. */
const LAST_TIME = 8.64e15

/** A field of an identity that a host got wrong, and what it is instead of what. Null where the identity can be used. */
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

/** What a value is that is no id of this kind, without the value. */
function describe (value: unknown, kind: IdKind): string {
  if (kind === 'integer') return kindOf(value)
  if (typeof value === 'number') return 'a number'
  return typeof value === 'string' ? describeText(value) : kindOf(value)
}

/** The fault of a text that is no id, without the text. */
function describeText ({ length }: string): string {
  return length === 0 ? 'an empty string' : length > MAX_LENGTH ? `a string of ${length} characters` : 'a string with other characters'
}

/** A Date or milliseconds since 1970. */
export const isTime = (value: unknown): value is Date | number =>
  (typeof value === 'number' || value instanceof Date) && Math.abs(Number(value)) <= LAST_TIME

const isTimeOrNone = (value: unknown): boolean => value === undefined || value === null || isTime(value)

/** What a value is, without the value: it may be a secret. */
function kindOf (value: unknown): string {
  if (value === undefined || value === null || Number.isNaN(value)) return String(value)
  if (value instanceof Date) return 'an invalid Date'
  if (typeof value === 'number') return Number.isFinite(value) ? Number.isInteger(value) ? 'a number out of range' : 'a fraction' : String(value)
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
