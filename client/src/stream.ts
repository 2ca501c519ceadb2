import { FRAMES } from './limits.js'
import { globals } from './globals.js'
import type { Link, Wire } from './link.js'
import type { Core } from './state.js'
import type { FramesBody } from './wire.js'

/** A stream of server-sent events that carries the link: frames are sent by REST, and their replies are events of the stream. */
export function openStream (core: Core, { scope, take, end, drop }: Link, onOpen: () => void): Wire {
  const { connectionId } = core.settings
  let queue: unknown[] = []
  let isSending = false

  const read = async (): Promise<void> => {
    const { body } = await core.fetch(scope, core.token, `/stream?connection_id=${encodeURIComponent(connectionId)}`)
    const reader = body!.getReader()
    const decoder = new globals.TextDecoder!()
    onOpen()
    for (let text = ''; !scope.ended;) {
      const { done, value } = await reader.read()
      if (done) return
      const blocks = (text + decoder.decode(value, { stream: true })).split('\n\n')
      text = blocks.pop()!
      for (const block of blocks) {
        const [, event, id, json] = /^event: (.*)\n(?:reply: (.*)\n)?data: (.*)$/.exec(block) ?? []
        if (!event) continue
        const data = JSON.parse(json!) as { code: number, reason: string }
        if (event === 'close') end(data.code, data.reason)
        else take({ event, id: id && Number(id), data })
      }
    }
  }
  /** One request after the other, so that the frames keep their order. */
  const drain = async (): Promise<void> => {
    while (queue.length) {
      const frames = queue
      queue = frames.splice(FRAMES)
      await core.call(scope, '/frames', { connection_id: connectionId, frames } satisfies FramesBody)
    }
    isSending = false
  }

  read().then(drop, drop)
  return {
    send: (text) => {
      queue.push(JSON.parse(text))
      if (isSending) return
      isSending = true
      drain().catch(drop)
    },
    close: () => {}
  }
}
