/**
 * Codes of replies that may be different on a new connection: it asks DNS or Sentinel again, so that a node follows a failover.
 * Replies like OOM, MISCONF or NOPERM would be the same.
 */
const DIFFERS_ON_RECONNECT = new Set(['READONLY', 'LOADING', 'MASTERDOWN', 'NOREPLICAS', 'NOAUTH'])
const CODES = [...DIFFERS_ON_RECONNECT, 'OOM', 'MISCONF', 'BUSY', 'UNKILLABLE', 'NOPERM', 'WRONGPASS', 'CLUSTERDOWN']
// Before Redis 7, the error of a command in a script follows the script's own error.
const CODE = new RegExp(`(?:^|[ -])(${CODES.join('|')}) `)

/** The code of a reply with which the server refuses all commands of a kind, such as READONLY or OOM; else null. */
export const refusalOf = (err: unknown): string | null => err instanceof Error ? CODE.exec(err.message)?.[1] ?? null : null

/** Whether a new connection may lead to another reply than this one. */
export const mayDifferOnReconnect = (code: string | null): boolean => code !== null && DIFFERS_ON_RECONNECT.has(code)

/** Redis would reject the command again: a script has a mistake, or a key is of another type. */
export const isInvalid = (err: unknown): err is Error =>
  err instanceof Error && err.name === 'ReplyError' && /^(WRONGTYPE |ERR .*script)/is.test(err.message) &&
  // Before Redis 7, the reason of a refusal follows the script's own error.
  !/-(OOM|READONLY|MISCONF|MASTERDOWN|NOREPLICAS|LOADING|BUSY) /.test(err.message)

/** Redis did not respond in time, or this process was too busy to read the response in time. */
export const isTimeout = (err: unknown): boolean => err instanceof Error && err.message === 'Command timed out'

export const NOT_CONNECTED = 'not connected'
export const NO_RESPONSE = 'no response'

/** Why a command failed, as a short text that is the same for the same reason. */
export function reasonOf (err: unknown): string {
  const code = refusalOf(err)
  if (code !== null || !(err instanceof Error)) return code ?? String(err)
  return /isn't writeable|Connection is closed|max retries/i.test(err.message) ? NOT_CONNECTED : err.message
}

/** Removes the command that ioredis adds to the error: errors are logged, and its arguments contain texts of messages. */
export function withoutCommand (err: unknown): unknown {
  if (err instanceof Error && 'command' in err) delete err.command
  return err
}
