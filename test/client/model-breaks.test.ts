import t from 'tap'
import { compile, run } from './model-run.js'

/* A model that finds nothing proves nothing: each of these breaks one line of the client, and must be found. */

for (const [what, broken] of Object.entries({
  'repeats are not dropped': { file: 'delivery.ts', from: 'const isNew = !seen.has(messageId)', to: 'const isNew = true' },
  'an acked id is not a seen id': { file: 'outbox.ts', from: 'core.see(messageId)', to: 'void messageId' },
  'the queue outlives its user': { file: 'session.ts', from: "giveUp(new ClientError('RT_IDENTITY_CHANGED'))", to: "core.suspend(new ClientError('RT_IDENTITY_CHANGED'))" },
  'a socket outlives disconnect()': { file: 'link.ts', from: "scope.onEnd(() => { link.closeBy(1000, '', () => { link.wire!.close(1000) }) })", to: '' },
  'the cursor moves before the replay has come': { file: 'delivery.ts', from: 'if (entry?.replay) {', to: 'if (entry?.replay && (entry.cursor = id) < 0) {' },
  'a dedupeId is drawn for each try': { file: 'outbox.ts', from: 'await carrier(event, data, (', to: 'await carrier(event, { ...data, dedupeId: String(clock.random()) }, (' },
  'a request is waited for as long as the server likes': { file: 'rest.ts', from: 'TIMEOUT,', to: 'undefined,' },
  'the token function is asked by each who needs one': { file: 'tokens.ts', from: 'asking ??=', to: 'asking =' },
  'a batch continues after a listener has ended it': { file: 'delivery.ts', from: 'if (core.user.ended) break', to: '' },
  'a timer outlives its socket': { file: 'heartbeat.ts', from: 'link.after(ms', to: 'core.clock.after(ms' },
  'cursors of another log are kept': { file: 'state.ts', from: 'entry.cursor = undefined\n      entry.replay', to: 'entry.replay' }
})) {
  t.test(`the model finds out when ${what}`, async (t) => {
    const { count, failures } = await run(await compile(`broken-${what.replace(/\W+/g, '-')}`, broken), 1, 3000, 1)
    t.ok(failures.length > 0, `after ${count} sequences`)
    t.comment(`after ${count} sequences: ${failures[0]?.problems[0]}`)
  })
}
