import { randomUUID } from 'node:crypto'
import { RealtimeError, toRealtimeError, type ErrorCode } from '../errors.js'

type Mail =
  | { kind: 'question', id: string, from: string, op: string, data: unknown }
  | { kind: 'answer', id: string, data?: unknown, error?: { code: ErrorCode, message: string } }

/** How long a node has to answer; past it the caller is told that the node is gone. */
const ANSWER_TIMEOUT = 3000

/** Questions from node to node (close that socket, subscribe that connection) and their answers, over any topic. */
export class NodeMail {
  handler: (op: string, data: unknown) => Promise<unknown> = async () => { throw new RealtimeError('RT_NOT_FOUND') }
  readonly #nodeId: string
  readonly #post: (to: string, text: string) => Promise<void>
  readonly #open = new Map<string, { resolve: (data: unknown) => void, reject: (err: Error) => void, timer: NodeJS.Timeout }>()

  constructor (nodeId: string, post: (to: string, text: string) => Promise<void>) {
    this.#nodeId = nodeId
    this.#post = post
  }

  async ask (to: string, op: string, data: unknown): Promise<unknown> {
    if (to === this.#nodeId) return await this.handler(op, data)
    const id = randomUUID()
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#open.delete(id)
        reject(new RealtimeError('RT_NOT_FOUND', 'That node does not answer'))
      }, ANSWER_TIMEOUT)
      this.#open.set(id, { resolve, reject, timer })
      this.#send(to, { kind: 'question', id, from: this.#nodeId, op, data }).catch((err: Error) => {
        clearTimeout(timer)
        this.#open.delete(id)
        reject(err)
      })
    })
  }

  receive (text: string): void {
    const mail = JSON.parse(text) as Mail // only nodes of this cluster can write to the topic
    if (mail.kind === 'question') {
      void this.#answer(mail)
      return
    }
    const waiting = this.#open.get(mail.id)
    if (waiting === undefined) return // came after its time
    this.#open.delete(mail.id)
    clearTimeout(waiting.timer)
    if (mail.error === undefined) waiting.resolve(mail.data)
    else waiting.reject(new RealtimeError(mail.error.code, mail.error.message))
  }

  close (): void {
    for (const { reject, timer } of this.#open.values()) {
      clearTimeout(timer)
      reject(new RealtimeError('RT_NOT_FOUND', 'This node is closing'))
    }
    this.#open.clear()
  }

  async #answer ({ id, from, op, data }: Extract<Mail, { kind: 'question' }>): Promise<void> {
    try {
      const answer = await this.handler(op, data)
      await this.#send(from, { kind: 'answer', id, data: answer })
    } catch (err) {
      const { code, message } = toRealtimeError(err)
      await this.#send(from, { kind: 'answer', id, error: { code, message } }).catch(() => {})
    }
  }

  async #send (to: string, mail: Mail): Promise<void> {
    await this.#post(to, JSON.stringify(mail))
  }
}
