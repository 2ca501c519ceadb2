import { CloseCode } from '../../lib/wire/close-codes.js'
import type { Connection } from './connection.js'

/**
 * Counts a frame without a reply: a control frame, a fragment, or any frame after the close. A peer that sends them faster than
 * the rate of frames is closed as flooding, and its connection is destroyed if it continues.
 */
export function countSilentFrame (connection: Connection): void {
  const { limiter } = connection
  if (connection.closed) {
    if (limiter.isFloodingOn()) connection.terminate()
  } else if (limiter.msUntilAllowed() > 0 && limiter.isFlooding()) {
    connection.close(CloseCode.flooding, 'flooding')
  }
}
