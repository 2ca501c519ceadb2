import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { WebSocket } from 'ws'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The README and the pages of docs/, by their paths. */
export const pages: Record<string, string> = Object.fromEntries(
  ['README.md', ...readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]
    .map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]))

/** The code under `<!-- example: name -->`, on whichever page it stands. */
export function example (name: string): string {
  const marked = new RegExp(`<!-- example: ${name} -->\\n\`\`\`(?:ts|js)\\n([\\s\\S]*?)\`\`\``)
  const code = Object.values(pages).map((text) => marked.exec(text)?.[1]).find((found) => found !== undefined)
  if (code === undefined) throw new Error(`no page has an example ${name}`)
  return code
}

/** What a host prints when it listens. */
export const HOST_URL = /http:\/\/127\.0\.0\.1:\d+|http:\/\/\[::1\]:\d+/

export const firstFrames = async (socket: WebSocket, count: number): Promise<Array<{ event: string, data: object }>> => {
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

/** The user ids of the README's host. */
export const [ANN, BEN] = ['3f2504e0-4f89-41d3-9a0c-0305e82c3301', '9c5b94b1-35ad-49bb-b118-8e8fc24abf80']

/** The README's host delivers: Ann sends by REST, Ben receives it at his socket. */
export async function checkHost (t: Test, url: string): Promise<void> {
  const ben = new WebSocket(`${url.replace('http', 'ws')}/api/websocket/ws`, ['bearer', 'secret-of-ben'])
  t.match(await firstFrames(ben, 1), [{ event: 'authenticated', data: { userId: BEN, clubId: 'acme' } }])
  const answer = await fetch(`${url}/api/websocket/messages/direct`, {
    method: 'POST',
    headers: { authorization: 'Bearer secret-of-ann', 'content-type': 'application/json' },
    body: JSON.stringify({ recipient_id: BEN, message: 'hello', conversation_id: 'c' })
  })
  t.equal(answer.status, 202)
  t.match(await firstFrames(ben, 1), [{ event: 'message:direct', data: { senderId: ANN, message: 'hello' } }])
  ben.terminate()
}
