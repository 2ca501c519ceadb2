import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { WebSocket } from 'ws'
import { errorCodes } from '../lib/errors.js'
import { CloseCode } from '../lib/protocol.js'
import { startChild } from './child-process.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')

/** Runs a block of the README as its reader would, with the package's name pointing at the sources. */
async function runExample (name: string): Promise<{ url: string, stop: () => Promise<unknown> }> {
  const code = new RegExp(`<!-- example: ${name} -->\\n\`\`\`ts\\n([\\s\\S]*?)\`\`\``).exec(readme)?.[1]
  if (code === undefined) throw new Error(`the README has no example ${name}`)
  const folder = join(ROOT, 'data')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `readme-${name}-${process.pid}.ts`)
  writeFileSync(file, code.replace("'fastify-realtime'", "'../plugins/index.js'"))
  const child = await startChild(process.execPath, ['--import', 'tsx', file], { cwd: ROOT, env: { PATH: process.env.PATH, DATABASE_URL: 'sqlite::memory:', PORT: '0' } })
  const [url] = await child.waitFor(/http:\/\/127\.0\.0\.1:\d+|http:\/\/\[::1\]:\d+/, 30_000)
  return {
    url: url ?? '',
    stop: async () => {
      await child.stop(10_000)
      rmSync(file)
    }
  }
}

const firstFrames = async (socket: WebSocket, count: number): Promise<Array<{ event: string, data: object }>> => {
  const frames: Array<{ event: string, data: object }> = []
  await new Promise<void>((resolve, reject) => {
    socket.on('message', (data: Buffer) => {
      frames.push(JSON.parse(data.toString()) as { event: string, data: object })
      if (frames.length === count) resolve()
    })
    socket.on('error', reject)
    socket.on('close', (code) => { reject(new Error(`closed with ${code}`)) })
  })
  return frames
}

t.test('the host of the README runs and delivers', async (t) => {
  const host = await runExample('host')
  t.teardown(host.stop)
  const address = `${host.url.replace('http', 'ws')}/api/websocket/ws`
  const ben = new WebSocket(address, ['bearer', 'secret-of-ben'])
  t.match(await firstFrames(ben, 1), [{ event: 'authenticated', data: { userId: 2, clubId: 1 } }])
  const answer = await fetch(`${host.url}/api/websocket/messages/direct`, {
    method: 'POST',
    headers: { authorization: 'Bearer secret-of-ann', 'content-type': 'application/json' },
    body: JSON.stringify({ recipient_id: 2, message: 'hello', conversation_id: 'c' })
  })
  t.equal(answer.status, 202)
  const got = await firstFrames(ben, 1)
  t.match(got, [{ event: 'message:direct', data: { senderId: 1, message: 'hello' } }])
  ben.terminate()
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
