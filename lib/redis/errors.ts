/**
 * Codes of replies that say: not this server, or not this session. Connecting again asks DNS or Sentinel anew, so that a
 * node follows a failover. A reply like OOM, MISCONF or NOPERM would be the same on a new connection.
 */
const ELSEWHERE = new Set(['READONLY', 'LOADING', 'MASTERDOWN', 'NOREPLICAS', 'NOAUTH'])
const CODES = [...ELSEWHERE, 'OOM', 'MISCONF', 'BUSY', 'UNKILLABLE', 'NOPERM', 'WRONGPASS', 'CLUSTERDOWN']
// Before Redis 7, the error of a command within a script stands behind the script's own.
const CODE = new RegExp(`(?:^|[ -])(${CODES.join('|')}) `)

/** The code of Redis' reply where it is one that the whole server gives, such as READONLY or OOM; else null. */
export const refusalOf = (err: unknown): string | null => err instanceof Error ? CODE.exec(err.message)?.[1] ?? null : null

/** The reply with this code may be another one on a new connection. */
export const leadsElsewhere = (code: string | null): boolean => code !== null && ELSEWHERE.has(code)

/** Redis would reject the command again: a script has a mistake, or a key is of another type. */
export const isInvalid = (err: unknown): err is Error =>
  err instanceof Error && err.name === 'ReplyError' && /^(WRONGTYPE |ERR .*script)/is.test(err.message) &&
  // Before Redis 7, the reason why the server refuses to serve stands behind the script's own error.
  !/-(OOM|READONLY|MISCONF|MASTERDOWN|NOREPLICAS|LOADING|BUSY) /.test(err.message)

/** Redis did not answer in time, or this process did not look in time. */
export const isTimeout = (err: unknown): boolean => err instanceof Error && err.message === 'Command timed out'

/** There is no connection at the moment, for whatever reason. */
export const NOT_CONNECTED = 'not connected'

/** Why a command failed, in few words that are the same each time. */
export function reasonOf (err: unknown): string {
  const code = refusalOf(err)
  if (code !== null || !(err instanceof Error)) return code ?? String(err)
  return /isn't writeable|Connection is closed|max retries/i.test(err.message) ? NOT_CONNECTED : err.message
}

/** The same error without the command that ioredis puts on it: its arguments are people's texts, and errors are logged. */
export function withoutCommand (err: unknown): unknown {
  if (err instanceof Error && 'command' in err) delete err.command
  return err
}
