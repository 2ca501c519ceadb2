import type { Outcome } from '../errors.js'

/**
 * Why a statement failed. Some errors are caused by the row: the database works, and will never store this row. All others are
 * caused by the database: the row is valid, and another attempt may succeed.
 */

/** MySQL's and MariaDB's error numbers of rows that cannot be stored. */
const ROW_ERRNO = new Set([
  1022, 1062, 1586, // duplicate key
  1048, 1364, // null, or no value, for a column that needs one
  1118, 1406, // too long
  1153, 1301, // larger than max_allowed_packet
  1264, 1265, 1366, 1367, 1411, 1690, // out of range, wrong type, or a text the character set cannot hold
  1292, 1300, 3854, // wrong value, or bytes that are no text
  1216, 1452, // a foreign key of the host's
  1644, // a trigger of the host's
  3140, 3141, 3156, 4038, // not JSON
  3819, 4025 // a check constraint
])
const DUPLICATE_ERRNO = new Set([1022, 1062, 1586])
/** Deadlock, and lock wait timeout. */
const LOCK_ERRNO = new Set([1205, 1213])
/** The server, or the session, is read-only. */
const READ_ONLY_ERRNO = new Set([1290, 1792, 1836])
/** The connection broke, or the statement was interrupted: it may have been committed before. */
const UNKNOWN_ERRNO = new Set([1053, 1152, 1158, 1159, 1160, 1161, 1180, 1317, 1927, 2006, 2013])

/** SQLite's primary result codes of rows that cannot be stored: too big, constraint, mismatch, range. */
const ROW_RESULT = new Set([18, 19, 20, 25])
const ROW_CODE = /^SQLITE_(TOOBIG|CONSTRAINT|MISMATCH|RANGE)/
const DUPLICATE_CODE = /^SQLITE_CONSTRAINT(_UNIQUE|_PRIMARYKEY|_ROWID)?$/
const DUPLICATE_RESULT = new Set([1555, 2067, 2579])

const NOTHING_SENT = Symbol('nothing was sent')

/** The database did not respond within the time limit of a statement. */
export class DatabaseTimeout extends Error {
  override readonly name = 'DatabaseTimeout'
}

/** Marks an error that occurred before the statement was sent. */
export function nothingSent<T extends Error> (err: T): T {
  return Object.assign(err, { [NOTHING_SENT]: true })
}

/** The error number of a MySQL or MariaDB server, null for every other error. */
function errnoOf (err: unknown): number | null {
  return typeof err === 'object' && err !== null && 'sqlState' in err && 'errno' in err && typeof err.errno === 'number' && err.errno > 0
    ? err.errno
    : null
}

/** The extended result code of SQLite, if the driver provides it. */
function resultOf (err: object): number | null {
  const result = 'rawCode' in err ? err.rawCode : 'errcode' in err ? err.errcode : null
  return typeof result === 'number' ? result : null
}

const codeOf = (err: object): string => 'code' in err ? String(err.code) : ''

/** Whether the database will never accept the row. */
export function isRowFault (err: unknown): boolean {
  if (!(err instanceof Error)) return false
  const errno = errnoOf(err)
  if (errno !== null) return ROW_ERRNO.has(errno)
  const result = resultOf(err)
  if (result !== null) return ROW_RESULT.has(result & 0xff)
  // A driver that cannot pass a value on has no error code.
  return ROW_CODE.test(codeOf(err)) || err instanceof RangeError || /can only bind|cannot be bound/.test(err.message)
}

export function isDuplicate (err: unknown): boolean {
  if (!(err instanceof Error)) return false
  const errno = errnoOf(err)
  if (errno !== null) return DUPLICATE_ERRNO.has(errno)
  return DUPLICATE_CODE.test(codeOf(err)) || DUPLICATE_RESULT.has(resultOf(err) ?? 0)
}

/** A deadlock or a lock timeout: the statement was not executed, and another attempt may succeed. */
export function isDeadlock (err: unknown): boolean {
  return LOCK_ERRNO.has(errnoOf(err) ?? 0)
}

/** The server accepts no writes: it was demoted, or the connection leads to the wrong server. */
export function isReadOnly (err: unknown): boolean {
  return READ_ONLY_ERRNO.has(errnoOf(err) ?? 0) || (err instanceof Error && codeOf(err).startsWith('SQLITE_READONLY'))
}

/** The connection may be in a state that would affect later statements. */
export const breaksConnection = (err: unknown): boolean => !isRowFault(err) && !isDeadlock(err)

/** Whether a statement that failed with this error may have been executed. */
export function outcomeOf (err: unknown): Outcome {
  if (!(err instanceof Error)) return 'unknown'
  if (NOTHING_SENT in err) return 'none'
  const errno = errnoOf(err)
  if (errno !== null) return UNKNOWN_ERRNO.has(errno) ? 'unknown' : 'none'
  if ('syscall' in err && (err.syscall === 'connect' || err.syscall === 'getaddrinfo')) return 'none'
  const code = codeOf(err)
  return code.startsWith('SQLITE_') && !code.startsWith('SQLITE_IOERR') ? 'none' : 'unknown'
}

/**
 * The same error without the statement, and without the values that servers quote in some messages: logs must not contain what
 * users write.
 */
export function withoutValues (err: unknown): unknown {
  if (!(err instanceof Error) || errnoOf(err) === null) return err
  const quotes = isRowFault(err) || errnoOf(err) === 1064
  const column = /column '([\w.`]{1,200})'/.exec(err.message)?.[1]
  const message = quotes ? `${codeOf(err)}${column === undefined ? '' : ` (column ${column})`}` : err.message
  const stack = err.stack?.replace(err.message, message)
  Object.assign(err, { sql: undefined, sqlMessage: undefined, message, stack })
  return err
}
