import { createClient, type ClientError, type WebSocketClient, type WebSocketClientOptions } from '../../client/src/index.js'
import { FakeServer, tokenOf } from './fake-server.js'
import { VirtualClock } from './virtual-clock.js'

export interface FakeWorld {
  server: FakeServer
  clock: VirtualClock
  client: WebSocketClient
  emitted: Array<{ event: string, data: any }> // eslint-disable-line @typescript-eslint/no-explicit-any -- as it came, asserted by the test
  of (event: string): any[] // eslint-disable-line @typescript-eslint/no-explicit-any -- as it came, asserted by the test
  errors: ClientError[]
  /** What the client sent since this was called last. */
  sent (): string[]
}

const EVENTS = [
  'connected', 'disconnected', 'reconnecting', 'subscribed', 'unsubscribed', 'gap', 'transport', 'identity-changed', 'watched', 'message:group', 'message:direct', 'broadcast:message', 'error'
] as const

/** A client of a fake server, in virtual time. */
export function fakeWorld (options: Partial<WebSocketClientOptions> = {}, { isModern = true } = {}): FakeWorld {
  const clock = new VirtualClock()
  const server = new FakeServer(clock, isModern)
  const client = createClient({
    baseUrl: 'http://server/api/websocket', token: tokenOf({ tenant: 1, user: 1 }), ...server.connectTo(), clock: clock.forClient(() => 0.5), ...options
  })
  const emitted: FakeWorld['emitted'] = []
  for (const event of EVENTS) client.on(event, (data) => { emitted.push({ event, data }) })
  const errors: ClientError[] = []
  client.on('error', (err) => { errors.push(err) })
  const of = (event: string) => emitted.filter((one) => one.event === event).map(({ data }) => data)
  return { server, clock, client, emitted, of, errors, sent: () => server.sent.splice(0).map(({ what }) => what) }
}

export const group = (channel: string, message: string) => ({ channel, message, conversationId: 'c' })
