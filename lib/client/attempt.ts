import { ClientError } from './errors.js'
import { createLink, type Link } from './link.js'
import type { Settings } from './options.js'
import type { Rest } from './rest.js'
import type { Authenticated } from './types.js'

/** Milliseconds that a socket may take to open and to authenticate: the server's own deadline. */
const DEADLINE = 10_000

export interface Session extends Authenticated { link: Link }

/**
 * Registers the connection, opens a socket and authenticates it. Rejects with the server's code, `RT_SOCKET_CLOSED`, or
 * `RT_SOCKET_BLOCKED` where REST answers and the socket does not open.
 */
export async function attempt (rest: Rest, settings: Settings): Promise<Session> {
  const { clock, connectionId, WebSocket } = settings
  const token = await rest.fresh()
  if (token && token === rest.refused) throw new ClientError('RT_UNAUTHENTICATED')
  const register = async (): Promise<void> => {
    const { data } = await rest.call('/connect', { connection_id: connectionId }) as { data: { user_id: number } }
    rest.userId = data.user_id
  }
  // Where cookies say who it is, the server names the connection: registering another would leave a second one behind.
  if (token) await register()
  let link: Link | undefined
  let isOpen = false
  let stop = (): void => {}
  try {
    link = createLink(new (WebSocket as NonNullable<typeof WebSocket>)(rest.url('/ws').replace('http', 'ws')), clock)
    stop = clock.after(DEADLINE, link.drop)
    await link.opened
    isOpen = true
    const answer = await (token ? link.request('auth', { token, connectionId }) : link.expect('authenticated'))
    return { ...answer as Authenticated, link }
  } catch (err) {
    link?.close()
    if (isOpen) throw err
    if (!token) await register()
    throw new ClientError('RT_SOCKET_BLOCKED', undefined, {}, err)
  } finally {
    stop()
  }
}
