import { writeSync } from 'node:fs'
import { buildApp, MovableClock } from '../../plugins/testing.js'

/** A node that prints each `waiting`. With DIES it is killed while it emits one. */
const clock = new MovableClock()
const { app } = await buildApp({
  clock,
  core: { database: process.env.DATABASE_URL ?? '', redis: process.env.REDIS_URL, keyPrefix: process.env.KEY_PREFIX ?? '', authorize: () => true },
  channels: { waitingAfter: 1000 }
})
app.realtime.events.on('waiting', ({ messageId }) => {
  // At once, however the process ends.
  writeSync(1, `waiting ${messageId}\n`)
  if (process.env.DIES !== undefined) process.kill(process.pid, 'SIGKILL')
})
process.on('SIGUSR2', () => { clock.advance(11_000) })
const url = await app.listen({ port: 0, host: '127.0.0.1' })
writeSync(1, `listening on ${url}\n`)
