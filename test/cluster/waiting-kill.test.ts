import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { tokenOf, until, user } from '../helper.js'
import { startChild, type Child } from '../child-process.js'
import { createDatabase } from '../servers.js'

interface Node { child: Child, send: () => Promise<number>, emitted: () => number[] }

async function start (t: Test, env: Record<string, string>): Promise<Node> {
  const child = await startChild(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'waiting-node.ts')], { env: { ...process.env, ...env } })
  t.teardown(async () => { await child.kill() })
  const [, url] = await child.waitFor(/listening on (\S+)/, 60_000)
  return {
    child,
    send: async () => {
      const response = await fetch(`${url}/api/websocket/messages/direct`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tokenOf(user(1))}`, 'content-type': 'application/json' },
        body: JSON.stringify({ recipient_id: 2, message: 'are you there?', conversation_id: 'c' })
      })
      const { data } = await response.json() as { data: { message_id: number } }
      return data.message_id
    },
    emitted: () => [...child.output().matchAll(/^waiting (\d+)$/gm)].map(([, id]) => Number(id))
  }
}

t.test('one node emits waiting for a message, and another one emits it again only if the first dies while it emits', async (t) => {
  const database = await createDatabase(process.env.DATABASE_URL ?? '')
  t.teardown(async () => { await database.drop() })
  const env = { DATABASE_URL: database.url, REDIS_URL: process.env.REDIS_URL ?? '', KEY_PREFIX: `waiting-${randomBytes(6).toString('hex')}` }
  const dying = await start(t, { ...env, DIES: '1' })
  const [second, third] = await Promise.all([start(t, env), start(t, env)])
  const others = (): number[] => [...second.emitted(), ...third.emitted()]

  // The first one has the sweeper's lock, and is killed with the first message: it told one, and claimed all that were due.
  const ids = [await second.send(), await second.send(), await second.send()]
  await dying.child.exited
  t.equal(dying.emitted().length, 1)
  t.ok(ids.includes(dying.emitted()[0] ?? 0))
  t.strictSame(others().filter((id) => dying.emitted().includes(id)), [], 'the claim holds while the node may be alive')
  for (const { child } of [second, third]) process.kill(child.pid, 'SIGUSR2')
  await until('the others tell it again', () => new Set(others()).size === 3)
  t.strictSame(others().toSorted((a, b) => a - b), ids, 'each by one of them, once')

  const later = await third.send()
  for (const { child } of [second, third]) process.kill(child.pid, 'SIGUSR2')
  await until('later messages are emitted', () => others().includes(later))
  for (const { child } of [second, third]) process.kill(child.pid, 'SIGUSR2')
  const last = await second.send()
  for (const { child } of [second, third]) process.kill(child.pid, 'SIGUSR2')
  await until('the next one is emitted', () => others().includes(last))
  t.strictSame(others().toSorted((a, b) => a - b), [...ids, later, last], 'and nothing twice')
})
