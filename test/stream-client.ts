import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { Identity } from '../lib/identity.js'
import { isTranslated, PREFIX, tokenOf, type Host } from './helper.js'
import { headersOf, pathOf, toNumbers } from './string-ids.js'

/** One block of a stream: an event, or the cursor alone. */
export interface Block { event: string, data: any, id?: string } // eslint-disable-line @typescript-eslint/no-explicit-any -- what comes over the wire has the shape that the test then asserts

/** What a reader of server-sent events makes of a text. */
export function createParser (onBlock: (block: Block) => void, onComment: () => void = () => {}): (text: string) => void {
  let rest = ''
  return (text) => {
    const blocks = (rest + text).split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trimStart()]))
      const [event, data, id] = [fields.get('event') ?? '', fields.get('data'), fields.get('id')]
      if (event === '' && id === undefined) onComment()
      else onBlock({ event, data: data === undefined ? undefined : JSON.parse(data) as unknown, ...(id === undefined ? {} : { id }) })
    }
  }
}

/** A reader of one stream. */
export class StreamClient {
  readonly blocks: Block[] = []
  comments = 0
  ended = false
  readonly #response: IncomingMessage
  readonly #heard: Array<() => void> = []
  #taken = 0

  constructor (response: IncomingMessage, translate = false) {
    this.#response = response
    const parse = createParser((block) => { this.blocks.push(translate ? toNumbers(block) : block) }, () => { this.comments++ })
    const wake = (): void => { for (const heard of this.#heard.splice(0)) heard() }
    response.setEncoding('utf8').on('data', (text: string) => {
      parse(text)
      wake()
    }).on('error', () => {}).on('close', () => {
      this.ended = true
      wake()
    })
  }

  get status (): number {
    return this.#response.statusCode ?? 0
  }

  get headers (): IncomingMessage['headers'] {
    return this.#response.headers
  }

  /** The last cursor. */
  get cursor (): string | undefined {
    return this.blocks.findLast(({ id }) => id !== undefined)?.id
  }

  /** The data of the next event of this name, skipping others. */
  async next (event: string): Promise<Block['data']> {
    for (;;) {
      while (this.#taken < this.blocks.length) {
        const block = this.blocks[this.#taken++]
        if (block?.event === event) return block.data
      }
      await this.#more(event)
    }
  }

  async until (what: string, is: (client: this) => boolean): Promise<void> {
    while (!is(this)) await this.#more(what)
  }

  of (event: string): Array<Block['data']> {
    return this.blocks.filter((block) => block.event === event).map(({ data }) => data)
  }

  pause (): void {
    this.#response.pause()
  }

  cut (): void {
    this.#response.destroy()
  }

  async #more (what: string): Promise<void> {
    if (this.ended) throw new Error(`the stream ended before ${what}: ${JSON.stringify(this.blocks.slice(-5))}`)
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`no ${what} in 20 s: ${JSON.stringify(this.blocks.slice(-5))}`)) }, 20_000)
      this.#heard.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}

/** The response to a request for a stream. */
export async function streamResponse ({ url }: Pick<Host, 'url'>, identity: Identity | null, query = '', headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const translate = isTranslated({ url })
  const all = { ...(identity === null ? {} : { authorization: `Bearer ${tokenOf(identity)}` }), ...headers }
  const request = get(`${url}${PREFIX}/stream${translate ? pathOf(query) : query}`, { agent: false, headers: translate ? headersOf(all) : all })
  const [response] = await once(request, 'response') as [IncomingMessage]
  return response
}

/** An open stream. */
export async function stream (host: Pick<Host, 'url'>, identity: Identity, query = '', headers: Record<string, string> = {}): Promise<StreamClient> {
  const response = await streamResponse(host, identity, query, headers)
  if (response.statusCode !== 200) {
    let body = ''
    for await (const chunk of response.setEncoding('utf8')) body += chunk as string
    throw new Error(`${response.statusCode}: ${body}`)
  }
  return new StreamClient(response, isTranslated(host))
}

/** The answer where a stream is refused. */
export async function refused (host: Pick<Host, 'url'>, identity: Identity | null, query = '', headers: Record<string, string> = {}): Promise<{ status: number, body: any, headers: IncomingMessage['headers'] }> { // eslint-disable-line @typescript-eslint/no-explicit-any -- as above
  const response = await streamResponse(host, identity, query, headers)
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk as string
  return { status: response.statusCode ?? 0, body: JSON.parse(body), headers: response.headers }
}
