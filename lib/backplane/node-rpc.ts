import { randomUUID } from 'node:crypto'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { errorCodes, RealtimeError, toRealtimeError, type ErrorCode } from '../errors.js'

const Name = Type.String({ minLength: 1, maxLength: 200 })

const Question = Type.Object({
  kind: Type.Literal('question'), id: Name, from: Name, op: Name, data: Type.Optional(Type.Unknown())
})
const Answer = Type.Object({
  kind: Type.Literal('answer'),
  id: Name,
  data: Type.Optional(Type.Unknown()),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() }))
})
const RpcMessage = Type.Union([Question, Answer])
type RpcMessage = Static<typeof RpcMessage>

/** How long a node has to answer; past it the caller is told that the node is gone. */
const RESPONSE_TIMEOUT_MS = 3000

/** Questions from node to node (close that socket, subscribe that connection) and their answers, over any topic. */
export class NodeRpc {
  handler: (op: string, data: unknown) => Promise<unknown> = async () => { throw new RealtimeError('RT_NOT_FOUND') }
  readonly #nodeId: string
  readonly #post: (to: string, text: string) => Promise<void>
  readonly #open = new Map<string, { resolve: (data: unknown) => void, reject: (err: Error) => void, timer: NodeJS.Timeout }>()

  constructor (nodeId: string, post: (to: string, text: string) => Promise<void>) {
    this.#nodeId = nodeId
    this.#post = post
  }

  async call (to: string, op: string, data: unknown): Promise<unknown> {
    if (to === this.#nodeId) return await this.handler(op, data)
    const id = randomUUID()
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#open.delete(id)
        reject(new RealtimeError('RT_NOT_FOUND', 'That node does not answer'))
      }, RESPONSE_TIMEOUT_MS)
      this.#open.set(id, { resolve, reject, timer })
      this.#send(to, { kind: 'question', id, from: this.#nodeId, op, data }).catch((err: Error) => {
        clearTimeout(timer)
        this.#open.delete(id)
        reject(err)
      })
    })
  }

  /** False: this is no mail. */
  receive (text: string): boolean {
    const message = read(text)
    if (message === null) return false
    if (message.kind === 'question') {
      void this.#respond(message)
      return true
    }
    const waiting = this.#open.get(message.id)
    if (waiting === undefined) return true // came after its time
    this.#open.delete(message.id)
    clearTimeout(waiting.timer)
    if (message.error === undefined) waiting.resolve(message.data)
    else waiting.reject(new RealtimeError(codeOf(message.error), message.error.message))
    return true
  }

  close (): void {
    for (const { reject, timer } of this.#open.values()) {
      clearTimeout(timer)
      reject(new RealtimeError('RT_NOT_FOUND', 'This node is closing'))
    }
    this.#open.clear()
  }

  async #respond ({ id, from, op, data }: Static<typeof Question>): Promise<void> {
    try {
      const response = await this.handler(op, data)
      await this.#send(from, { kind: 'answer', id, data: response })
    } catch (err) {
      const { code, message } = toRealtimeError(err)
      await this.#send(from, { kind: 'answer', id, error: { code, message } }).catch(() => {})
    }
  }

  async #send (to: string, message: RpcMessage): Promise<void> {
    await this.#post(to, JSON.stringify(message))
  }
}

function read (text: string): RpcMessage | null {
  try {
    const message: unknown = JSON.parse(text)
    return Value.Check(RpcMessage, message) ? message : null
  } catch {
    return null
  }
}

/** A node of the next version may know codes that this one does not. */
const codeOf = ({ code }: { code: string }): ErrorCode => errorCodes.find((known) => known === code) ?? 'RT_INTERNAL'
