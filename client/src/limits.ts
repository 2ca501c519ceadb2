/** The client's limits; times are in milliseconds. Bundlers inline them, because this file imports nothing. */
/** A connection of this length was stable: the next delay starts from the shortest again. */
export const STABLE = 30_000
/** The minimum interval of attempts in milliseconds: a second, and a margin for network jitter. */
export const SPACING = 1250
/** Milliseconds for a link to open and to authenticate: the same as the server's timeout. */
export const LINK_DEADLINE = 10_000
/** The minimum delay in milliseconds after a close code that means "later". */
export const LATER = 5000
/** Number of consecutive sockets without any message, while REST works, after which sockets count as blocked. */
export const BLOCKED_AFTER = 2
/** The default interval of heartbeats in milliseconds, and its minimum. */
export const HEARTBEAT = 25_000
export const SHORTEST = 50
/** Time for the server to respond to a client that just woke up, in milliseconds. */
export const WAKE_TIMEOUT = 5000
/** Below the server's limits of 50 frames per second and 100 at once, so that resuming a hundred channels is not flooding. */
export const BURST = 50
export const WINDOW = 1250
/** Milliseconds until a reply, after which the link is closed. Longer than all timeouts of the server. */
export const REPLY_DEADLINE = 30_000
export const TIMEOUT = 15_000
/** Timeout of the token function in milliseconds. */
export const TOKEN_DEADLINE = 30_000
/** Milliseconds. The server remembers a `dedupeId` for 5 minutes; a later repetition would be stored again. */
export const KNOWN_FOR = 290_000
/** Attempts for a send that fails, and sockets that may be lost while the same send is in flight. */
export const SEND_TRIES = 5
/** Milliseconds until another send is attempted after one was postponed: it may have to wait for the same reason. */
export const PROBE = 1000
/** Number of ids remembered to drop repetitions: more than one replay, and the late events that the server repeats with it. */
export const REMEMBERED = 4096
/** Milliseconds without an event of any replay, on a live socket, after which all replays count as over. */
export const SILENCE = 10_000
/** Maximum number of channels per frame. */
export const CHANNELS = 100
/** Failed attempts after which waiting `subscribe` calls reject. */
export const SUBSCRIBE_TRIES = 5
export const PAGE = 500
/** Milliseconds per channel of a round: a user may send 600 requests per minute. */
export const PER_CHANNEL = 200
/** Frames of one request. */
export const FRAMES = 50
/** Maximum number of users per frame. */
export const USERS = 500
/** The longest delay of a timer; a larger one would fire at once. */
export const LONGEST = 2 ** 31 - 1
/** Milliseconds between two starts in a conversation: far below the 30 s after which typing expires on the server. */
export const REPEAT = 3000
/** A response about a cookie that took longer is requested again: the cookie may have changed meanwhile. */
export const STALE = 1000
