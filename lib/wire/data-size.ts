import { Type } from '@sinclair/typebox'
import { RealtimeError } from '../errors.js'

/** Bytes of the `data` of a message, as JSON. */
export const MAX_MESSAGE_DATA = 4096

/** The `data` of a message. Its size is checked by {@link requireMessageData}, because a schema cannot. */
export const MessageData = Type.Record(Type.String(), Type.Unknown(), { description: `The application’s own, at most ${MAX_MESSAGE_DATA} bytes of JSON` })

/** Whether `data` are small enough. */
export function isMessageData (data: object | null | undefined): boolean {
  return data === undefined || data === null || Buffer.byteLength(JSON.stringify(data)) <= MAX_MESSAGE_DATA
}

/** Throws `RT_INVALID_DATA` if the `data` of a message are too large. */
export function requireMessageData (data: object | null | undefined): void {
  if (!isMessageData(data)) throw new RealtimeError('RT_INVALID_DATA', `data: Expected at most ${MAX_MESSAGE_DATA} bytes of JSON`)
}
