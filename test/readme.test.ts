import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { errorCodes } from '../lib/errors.js'
import { CloseCode } from '../lib/wire/close-codes.js'
import { checkHost, example, firstFrames, HOST_URL, pages, ROOT } from './examples.js'
import { startExample } from './run-snippet.js'

const readme = pages['README.md'] ?? ''

/** The URL of an example that is a host. */
async function startHost (t: Test, name: string): Promise<string> {
  const [url] = await (await startExample(t, name)).waitFor(HOST_URL, 30_000)
  return url
}

t.test('the host of the README runs and delivers', async (t) => {
  await checkHost(t, await startHost(t, 'host'))
})

t.test('the host with cookie sessions runs, and other sites are kept out', async (t) => {
  const address = `${(await startHost(t, 'cookies')).replace('http', 'ws')}/api/websocket/ws`
  const own = new WebSocket(address, { headers: { cookie: 'theme=dark; sid=s3ss10n', origin: 'https://app.example.com' } })
  t.match(await firstFrames(own, 1), [{ event: 'authenticated', data: { userId: 7 } }])
  const other = new WebSocket(address, { headers: { cookie: 'sid=s3ss10n', origin: 'https://evil.example.com' } })
  t.equal(await new Promise((resolve) => { other.once('close', resolve) }), 4403)
  own.terminate()
})

t.test('the protocol page names every error code and close code, and no others', async (t) => {
  const protocol = pages['docs/protocol.md'] ?? ''
  t.strictSame([...new Set(protocol.match(/RT_[A-Z_]+/g))].sort(), [...errorCodes].sort())
  const codes = [...protocol.matchAll(/^\| (\d{4}) \|/gm)].map(([, code]) => Number(code))
  t.strictSame(codes.sort(), Object.values(CloseCode).sort())
})

t.test('the example of the test kit runs to its end', async (t) => {
  const child = await startExample(t, 'testing')
  t.match({ ...await child.exited, output: child.output() }, { code: 0, output: '' })
})

t.test('events of the host’s own are stored, and those within a transaction with it', async (t) => {
  const child = await startExample(t, 'events', `
    import Fastify from 'fastify'
    import { openDatabase, realtime } from 'fastify-realtime'
    const { db } = openDatabase('sqlite::memory:')
    const app = Fastify()
    await app.register(realtime, { database: db, authenticate: () => null })
    await db.schema.createTable('orders').addColumn('id', 'integer').addColumn('shipped', 'integer').execute()
    ${example('events')}
    ${example('transaction')}
    console.log(JSON.stringify(await db.selectFrom('websocket_events').select(['event_type', 'channel', 'payload']).execute()))
    await app.close()
  `)
  t.equal((await child.exited).code, 0, child.output())
  t.match(JSON.parse(child.output()), Array.from({ length: 2 }, () => ({ event_type: 'order:shipped', channel: 'group.orders', payload: /"order":5/ })))
})

t.test('every link of the pages leads somewhere', async (t) => {
  const anchors = (page: string): string[] => [...(pages[page] ?? '').matchAll(/^#+ (.+)$/gm)]
    .map(([, title = '']) => title.toLowerCase().replace(/[^\w\s-]/g, '').replace(/\s/g, '-'))
  for (const [page, text] of Object.entries(pages)) {
    for (const [, link = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link)) continue
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? page : join(dirname(page), path)
      t.ok(existsSync(join(ROOT, target)), `${page}: ${link}`)
      if (anchor !== undefined) t.ok(anchors(target).includes(anchor), `${page}: ${link}`)
    }
  }
})

t.test('the README leads to every page', async (t) => {
  for (const page of Object.keys(pages).filter((page) => page !== 'README.md')) t.ok(readme.includes(`](${page})`), page)
})
