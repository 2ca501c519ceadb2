import { globals, type Fetch, type ResponseLike, type SocketLike } from './globals.js'
import type { Rest } from './rest.js'
import type { Scope } from './scope.js'
import type { FramesBody } from './wire.js'

/** Frames of one request. */
const FRAMES = 50

/** A stream of server-sent events, used like a socket: frames are sent by REST, and their replies are events of the stream. */
export function createStream (rest: Rest, fetch: Fetch, scope: Scope, token: string | undefined, connectionId: string): SocketLike {
  const listeners: Array<[type: string, listener: (event: never) => void]> = []
  const abort = globals.AbortController && new globals.AbortController()
  let queue: unknown[] = []
  let isSending = false
  let isOver = false

  const tell = (name: string, event: object): void => {
    for (const [type, listener] of listeners) if (type === name) listener(event as never)
  }
  const close = (code = 1000, reason = ''): void => {
    if (isOver) return
    isOver = true
    abort?.abort()
    tell('close', { code, reason })
  }
  const read = async ({ ok, body }: ResponseLike): Promise<void> => {
    const reader = ok && body!.getReader()
    if (!reader) return
    tell('open', {})
    const decoder = new globals.TextDecoder!()
    for (let text = ''; !isOver;) {
      const { done, value } = await reader.read()
      if (done) return
      const blocks = (text + decoder.decode(value, { stream: true })).split('\n\n')
      text = blocks.pop()!
      for (const block of blocks) {
        const [, event, id, data] = /^event: (.*)\n(?:reply: (.*)\n)?data: (.*)$/.exec(block) ?? []
        if (event === 'close') {
          const { code, reason } = JSON.parse(data!) as { code: number, reason: string }
          close(code, reason)
        } else if (event && !isOver) tell('message', { data: `{"event":"${event}",${id ? `"id":${id},` : ''}"data":${data}}` })
      }
    }
  }
  const lost = (): void => { close(1006) }
  /** One request after the other, so that the frames keep their order. */
  const drain = async (): Promise<void> => {
    while (queue.length && !isOver) {
      const frames = queue
      queue = frames.splice(FRAMES)
      await rest.call(scope, '/frames', { connection_id: connectionId, frames } satisfies FramesBody)
    }
    isSending = false
  }

  fetch(rest.url(`/stream?connection_id=${encodeURIComponent(connectionId)}`), { headers: token ? { authorization: `Bearer ${token}` } : {}, signal: abort?.signal })
    .then(read).then(lost, lost)
  return {
    send: (text) => {
      queue.push(JSON.parse(text))
      if (isSending) return
      isSending = true
      drain().catch(lost)
    },
    close,
    addEventListener: (type, listener) => { listeners.push([type, listener]) }
  }
}
