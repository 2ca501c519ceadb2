import type { ClientClock } from './clock.js'
import { ClientError, toClientError } from './errors.js'
import { Link, type SocketClass } from './link.js'
import { Outcome, outcomeOf } from './outcome.js'
import type { Rest } from './rest.js'
import type { Tokens } from './tokens.js'
import type { Authenticated } from './types.js'

/** Milliseconds that a socket may take to open and to authenticate: the server's own deadline. */
const DEADLINE = 10_000

export interface AttemptParts {
  rest: Rest
  tokens: Tokens
  clock: ClientClock
  WebSocket: SocketClass | undefined
  connectionId: string
  claims: object
}

export interface Session extends Authenticated { link: Link }

/** Registers the connection, opens a socket and authenticates it. Rejects with an {@link Outcome}. */
export async function attempt (parts: AttemptParts): Promise<Session> {
  try {
    const token = await parts.tokens.fresh()
    if (parts.tokens.isRefused) throw new Outcome('token', new ClientError('RT_UNAUTHENTICATED', 'This token was refused before'))
    // Where cookies say who it is, the server names the connection: registering another would leave a second one behind.
    const registered = token === undefined ? null : await register(parts)
    const link = await open(parts, registered)
    return { ...await authenticate(parts, link, token), link }
  } catch (err) {
    throw err instanceof Outcome ? err : outcomeOf(toClientError(err), parts.tokens)
  }
}

async function register ({ rest, connectionId }: AttemptParts): Promise<{ userId: number }> {
  const { data } = await rest.call('/connect', { connection_id: connectionId }, { renew: false }) as { data: { user_id: number } }
  return { userId: data.user_id }
}

async function open (parts: AttemptParts, registered: { userId: number } | null): Promise<Link> {
  const { WebSocket, clock, rest } = parts
  let why = 'The socket does not open'
  try {
    if (WebSocket === undefined) throw new Error('There is no WebSocket here: pass a class as an option')
    const link = new Link(new WebSocket(rest.socketUrl), clock)
    const timer = clock.setTimeout(() => { link.drop('not open in time') }, DEADLINE)
    const isOpen = await link.opened
    clock.clearTimeout(timer)
    if (isOpen) return link
  } catch (err) {
    why = toClientError(err).message
  }
  throw new Outcome('again', new ClientError('RT_SERVER_UNREACHABLE', why), registered ?? await register(parts))
}

async function authenticate ({ clock, connectionId, claims }: AttemptParts, link: Link, token: string | undefined): Promise<Authenticated> {
  const timer = clock.setTimeout(() => { link.drop('not authenticated in time') }, DEADLINE)
  try {
    return await (token === undefined ? link.expect('authenticated') : link.request('auth', { token, connectionId, ...claims })) as Authenticated
  } catch (err) {
    link.close(1000, '')
    throw err
  } finally {
    clock.clearTimeout(timer)
  }
}
