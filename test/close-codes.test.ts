import { readFile } from 'node:fs/promises'
import t from 'tap'
import { ClientError } from '../client/src/errors.js'
import { isFinal, isLater } from '../client/src/verdicts.js'
import { closeCodes } from '../lib/wire/close-codes.js'

const rows = Object.values(closeCodes)

/** How the documentation of the protocol words each advice. */
const ADVICE = { no: /^(stay away|be fixed)/, now: /^reconnect (?!later)/, later: /^reconnect later/, 'with a new token': /new token/ }

t.test('a client reconnects after a close as the server advises', async (t) => {
  for (const { code, meaning, reconnect } of rows) {
    const error = new ClientError('RT_SOCKET_CLOSED', meaning, { closeCode: code })
    t.equal(isFinal(error), reconnect === 'no', `${code} ${meaning}`)
    t.equal(isLater(error), reconnect === 'later', `${code} ${meaning}`)
  }
})

t.test('the documentation of the protocol has every close code, with the same advice', async (t) => {
  const text = await readFile(new URL('../docs/protocol.md', import.meta.url), 'utf8')
  const documented = new Map([...text.matchAll(/^\| (\d{4}) \| (.*?) \| (.*?) \|$/gm)].map(([, code, , advice]) => [Number(code), advice ?? '']))
  t.strictSame([...documented.keys()].sort(), rows.map(({ code }) => code).sort())
  for (const { code, reconnect } of rows) t.match(documented.get(code), ADVICE[reconnect], `${code}`)
})
