import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { Ids } from '../lib/ids.js'
import { channelKey, connectionKey, splitKey } from '../lib/keys.js'

const integers = new Ids('integer')

/** The compiler checks the lines below; a line that compiles although it should not is an error itself. */
export function host (app: FastifyInstance): unknown[] {
  return [
    // @ts-expect-error -- internal
    app.realtime.hub,
    // @ts-expect-error -- internal
    app.realtime.roster,
    // @ts-expect-error -- internal
    app.realtime.eventLog,
    // @ts-expect-error -- internal
    app.realtime.bus,
    // @ts-expect-error -- hosts listen, plugins emit
    app.realtime.events.emit,
    // @ts-expect-error -- an event of the plugins among themselves
    app.realtime.events.on('typingExpired', () => {}),
    // @ts-expect-error -- the key of a connection is not the key of a channel
    splitKey(connectionKey(1, 'c'), integers),
    // @ts-expect-error -- nor is any string
    splitKey(String(1), integers),
    splitKey(channelKey(1, 'room'), integers),
    splitKey('1/room', integers)
  ]
}

t.test('hosts see none of the internals: the compiler has checked this file', async (t) => {
  t.type(host, 'function')
})
