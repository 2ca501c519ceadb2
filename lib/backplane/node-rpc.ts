import { randomUUID } from 'node:crypto'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { errorCodes, RealtimeError, toRealtimeError, type ErrorCode } from '../errors.js'

const Name = Type.String({ minLength: 1, maxLength: 200 })

// The field `kind` has the same values in all versions: nodes of two versions may share a Redis.
const RpcRequest = Type.Object({
  kind: Type.Literal('question'), id: Name, from: Name, op: Name, data: Type.Optional(Type.Unknown())
})
const RpcResponse = Type.Object({
  kind: Type.Literal('answer'),
  id: Name,
  data: Type.Optional(Type.Unknown()),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() }))
})
const RpcMessage = Type.Union([RpcRequest, RpcResponse])
type RpcMessage = Static<typeof RpcMessage>

/** A node that does not respond within this time counts as gone. */
const RESPONSE_TIMEOUT_MS = 3000

/** Calls between nodes, for example to close a socket or to subscribe a connection. */
export class NodeRpc {
  handler: (op: string, data: unknown) => Promise<unknown> = async () => { throw new RealtimeError('RT_NOT_FOUND') }
  readonly #nodeId: string
  readonly #sendText: (to: string, text: string) => Promise<void>
  readonly #pending = new Map<string, { resolve: (data: unknown) => void, reject: (err: Error) => void, timer: NodeJS.Timeout }>()

  constructor (nodeId: string, sendText: (to: string, text: string) => Promise<void>) {
    this.#nodeId = nodeId
    this.#sendText = sendText
  }

  async call (to: string, op: string, data: unknown): Promise<unknown> {
    if (to === this.#nodeId) return await this.handler(op, data)
    const id = randomUUID()
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        reject(new RealtimeError('RT_NOT_FOUND', 'That node does not respond'))
      }, RESPONSE_TIMEOUT_MS)
      this.#pending.set(id, { resolve, reject, timer })
      this.#send(to, { kind: 'question', id, from: this.#nodeId, op, data }).catch((err: Error) => {
        clearTimeout(timer)
        this.#pending.delete(id)
        reject(err)
      })
    })
  }

  /** Returns false if the text is neither a request nor a response. */
  receive (text: string): boolean {
    const message = read(text)
    if (message === null) return false
    if (message.kind === 'question') {
      void this.#respond(message)
      return true
    }
    const waiting = this.#pending.get(message.id)
    if (waiting === undefined) return true // arrived after the timeout
    this.#pending.delete(message.id)
    clearTimeout(waiting.timer)
    if (message.error === undefined) waiting.resolve(message.data)
    else waiting.reject(new RealtimeError(codeOf(message.error), message.error.message))
    return true
  }

  close (): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(new RealtimeError('RT_NOT_FOUND', 'This node is closing'))
    }
    this.#pending.clear()
  }

  async #respond ({ id, from, op, data }: Static<typeof RpcRequest>): Promise<void> {
    try {
      const response = await this.handler(op, data)
      await this.#send(from, { kind: 'answer', id, data: response })
    } catch (err) {
      const { code, message } = toRealtimeError(err)
      await this.#send(from, { kind: 'answer', id, error: { code, message } }).catch(() => {})
    }
  }

  async #send (to: string, message: RpcMessage): Promise<void> {
    await this.#sendText(to, JSON.stringify(message))
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

/** A node of a later version may send codes that this version does not know. */
const codeOf = ({ code }: { code: string }): ErrorCode => errorCodes.find((known) => known === code) ?? 'RT_INTERNAL'
