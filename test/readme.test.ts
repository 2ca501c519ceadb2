import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { WebSocket } from 'ws'
import { errorCodes } from '../lib/errors.js'
import { CloseCode } from '../lib/protocol.js'
import { startChild } from './child-process.js'
import { checkHost, example, firstFrames, HOST_URL, pages, ROOT } from './examples.js'

const readme = pages['README.md'] ?? ''

/** Runs an example as its reader would, with the package's name pointing at the sources. */
async function runExample (name: string): Promise<{ url: string, stop: () => Promise<unknown> }> {
  const folder = join(ROOT, 'data')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `readme-${name}-${process.pid}.ts`)
  writeFileSync(file, example(name).replace("'fastify-realtime'", "'../plugins/index.js'"))
  const child = await startChild(process.execPath, ['--import', 'tsx', file], { cwd: ROOT, env: { PATH: process.env.PATH, DATABASE_URL: 'sqlite::memory:', PORT: '0' } })
  const [url] = await child.waitFor(HOST_URL, 30_000)
  return {
    url: url ?? '',
    stop: async () => {
      await child.stop(10_000)
      rmSync(file)
    }
  }
}

t.test('the host of the README runs and delivers', async (t) => {
  const host = await runExample('host')
  t.teardown(host.stop)
  await checkHost(t, host.url)
})

t.test('the host with cookie sessions runs, and other sites are kept out', async (t) => {
  const host = await runExample('cookies')
  t.teardown(host.stop)
  const address = `${host.url.replace('http', 'ws')}/api/websocket/ws`
  const own = new WebSocket(address, { headers: { cookie: 'theme=dark; sid=s3ss10n', origin: 'https://app.example.com' } })
  t.match(await firstFrames(own, 1), [{ event: 'authenticated', data: { userId: 7 } }])
  const other = new WebSocket(address, { headers: { cookie: 'sid=s3ss10n', origin: 'https://evil.example.com' } })
  t.equal(await new Promise((resolve) => { other.once('close', resolve) }), 4403)
  own.terminate()
})

t.test('the README names every error code and close code, and no others', async (t) => {
  t.strictSame([...new Set(readme.match(/RT_[A-Z_]+/g))].sort(), [...errorCodes].sort())
  const codes = [...readme.matchAll(/^\| (\d{4}) \|/gm)].map(([, code]) => Number(code))
  t.strictSame(codes.sort(), Object.values(CloseCode).sort())
})
