import { CloseCode } from '../../lib/wire/close-codes.js'
import type { Connection } from './connection.js'

/**
 * Counts a frame that nobody answers: a control frame, a fragment, or what comes after the close. A peer that sends them
 * faster than frames may come is closed as any that floods, and is cut off where it goes on.
 */
export function countSilentFrame (connection: Connection): void {
  const { limiter } = connection
  if (connection.closed) {
    if (limiter.isFloodingOn()) connection.terminate()
  } else if (limiter.msUntilAllowed() > 0 && limiter.isFlooding()) {
    connection.close(CloseCode.flooding, 'flooding')
  }
}
