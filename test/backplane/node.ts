import type { Test } from 'tap'
import type { Backplane, BackplaneHandlers, OutgoingEvent } from '../../lib/backplane/contract.js'
import type { ChannelKey } from '../../lib/keys.js'
import { within } from '../cluster/until.js'

/** Everything that a backplane passed to its node. */
export class Recorder implements BackplaneHandlers {
  readonly frames: Array<OutgoingEvent & { key: ChannelKey }> = []
  /** Channels of which frames may have been missed. */
  readonly missing: ChannelKey[] = []
  readonly receivedAt: number[] = []
  /** The handlers in the order of their calls. */
  readonly emitted: Array<'deliver' | 'missed' | 'heard' | 'back'> = []
  answer: (op: string, data: unknown) => unknown = (op, data) => ({ op, data })
  readonly onRequest = async (op: string, data: unknown): Promise<unknown> => this.answer(op, data)
  #wake: Array<() => void> = []

  onEvents (key: ChannelKey, frames: OutgoingEvent[]): void {
    this.frames.push(...frames.map((frame) => ({ ...frame, key })))
    this.#record('deliver')
  }

  onGap (keys: ChannelKey[]): void {
    this.missing.push(...keys)
    this.#record('missed')
  }

  onProbe (sentAt: number): void {
    this.receivedAt.push(sentAt)
    this.#record('heard')
  }

  onReconnected (): void {
    this.#record('back')
  }

  /** Texts of the frames, of one channel or of all, in order of arrival. */
  texts (key?: ChannelKey): string[] {
    return this.frames.filter((frame) => key === undefined || frame.key === key).map(textOf)
  }

  /** Resolves when the condition holds, checked after each call of a handler. */
  async until (what: string, condition: () => boolean): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!condition()) await new Promise<void>((resolve) => { this.#wake.push(resolve) })
    }
    await within(8000, what, wait())
  }

  async untilText (text: string): Promise<void> {
    await this.until(`${text} is received`, () => this.texts().includes(text))
  }

  #record (what: 'deliver' | 'missed' | 'heard' | 'back'): void {
    this.emitted.push(what)
    for (const wake of this.#wake.splice(0)) wake()
  }
}

export interface Node<B extends Backplane = Backplane> {
  backplane: B
  recorder: Recorder
}

/** Starts a backplane and closes it when `t` is through. */
export async function startNode<B extends Backplane> (t: Test, backplane: B): Promise<Node<B>> {
  const recorder = new Recorder()
  await backplane.start(recorder)
  t.teardown(async () => { await backplane.close() })
  return { backplane, recorder }
}

/** The payload of an event whose name is this text. */
export const payloadOf = (text: string | Buffer): Buffer => Buffer.concat([Buffer.from('{"event":"'), Buffer.from(text), Buffer.from('"}')])

export const textOf = ({ payload }: Pick<OutgoingEvent, 'payload'>): string => payload.toString().slice('{"event":"'.length, -'"}'.length)

export const frame = (text: string, rest: Partial<OutgoingEvent> = {}): OutgoingEvent =>
  ({ payload: payloadOf(text), messageId: 0, excludeConnectionId: null, isRetry: false, ...rest })

let lastId = 1000

/** A frame that somebody would read from the log, were it lost. */
export const durable = (text: string): OutgoingEvent => frame(text, { messageId: ++lastId })
