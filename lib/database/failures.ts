/** What a statement failed of, on either database. */

/** Deadlock, lock wait, too many connections, shutting down. */
const TRANSIENT_ERRNO = new Set([1040, 1053, 1152, 1158, 1159, 1160, 1161, 1205, 1213, 1927, 2006, 2013])

/** Worth another try, as against a row that will never fit. */
export function isTransient (err: unknown): boolean {
  if (typeof err !== 'object' || err === null) return false
  const errno = 'errno' in err && typeof err.errno === 'number' ? err.errno : null
  if ('sqlState' in err && errno !== null && errno > 0) return TRANSIENT_ERRNO.has(errno)
  const code = 'code' in err ? String(err.code) : ''
  return !code.startsWith('SQLITE_') || /^SQLITE_(BUSY|LOCKED|IOERR|FULL)/.test(code)
}

export const isDuplicate = (err: unknown): boolean =>
  typeof err === 'object' && err !== null && 'code' in err && /^(ER_DUP_ENTRY|SQLITE_CONSTRAINT)/.test(String(err.code))

/** Of two that waited for each other, or of one that waited too long: nothing was done, and the next try may. */
export const isDeadlock = (err: unknown): boolean =>
  typeof err === 'object' && err !== null && 'code' in err && /^ER_LOCK_(DEADLOCK|WAIT_TIMEOUT)$/.test(String(err.code))
