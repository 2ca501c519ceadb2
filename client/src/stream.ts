import { globals } from './globals.js'
import { FRAMES } from './limits.js'
import type { Link, Wire } from './link.js'
import type { Core } from './state.js'
import type { FramesBody } from './wire.js'

/** A stream of server-sent events that carries the link: frames are sent by REST, and their replies are events of the stream. */
export function openStream (core: Core, link: Link, onOpen: () => void): Wire {
  const { connectionId } = core
  let queue: unknown[] = []
  let isSending = false

  const read = async (): Promise<void> => {
    const { body } = await core.open(link, core.current, `/stream?connection_id=${encodeURIComponent(connectionId)}`)
    const reader = body!.getReader()
    const decoder = new globals.TextDecoder!()
    onOpen()
    for (let text = ''; !link.ended;) {
      const { done, value } = await reader.read()
      if (done) return
      const blocks = (text + decoder.decode(value, { stream: true })).split('\n\n')
      text = blocks.pop()!
      for (const block of blocks) {
        const [, event, id, json] = /^event: (.*)\n(?:reply: (.*)\n)?data: (.*)$/.exec(block) ?? []
        if (!event) continue
        const data = JSON.parse(json!) as { code: number, reason: string }
        if (event === 'close') link.closeBy(data.code, data.reason)
        else link.take({ event, id: id && Number(id), data })
      }
    }
  }
  /** One request after the other, so that the frames keep their order. */
  const drain = async (): Promise<void> => {
    while (queue.length) {
      const frames = queue
      queue = frames.splice(FRAMES)
      await core.call(link, '/frames', { connection_id: connectionId, frames } satisfies FramesBody)
    }
    isSending = false
  }

  read().then(link.drop, link.drop)
  return {
    send: (text) => {
      queue.push(JSON.parse(text))
      if (isSending) return
      isSending = true
      drain().catch(link.drop)
    },
    close: () => {}
  }
}
