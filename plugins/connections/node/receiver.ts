import { Writable } from 'node:stream'
import type { WebSocket } from 'ws'

/** The fields used here of the part of `ws` that reads frames. ws emits messages, but not their fragments. */
interface Receiver {
  /** 0: at the beginning of a frame. */
  _state: number
  /** The opcode of the message whose fragments are arriving; 0 between messages. */
  _fragmented: number
  _bufferedBytes: number
  /** The fragment that was read is the last one of its message. */
  _fin: boolean
  /** Called with each fragment that was read. */
  dataMessage (callback: unknown): unknown
}

/** Null if ws has no such fields, for example in another version. */
function receiverOf (socket: WebSocket): Receiver | null {
  const receiver: unknown = Reflect.get(socket, '_receiver')
  const isKnown = typeof receiver === 'object' && receiver !== null && '_state' in receiver && '_fragmented' in receiver &&
    'dataMessage' in receiver && typeof receiver.dataMessage === 'function'
  return isKnown ? receiver as Receiver : null
}

/** A message, or a frame of one, has arrived in part. */
export function isMidMessage (socket: WebSocket): boolean {
  const receiver = receiverOf(socket)
  return receiver !== null && (receiver._state !== 0 || receiver._fragmented !== 0 || receiver._bufferedBytes > 0)
}

/** The stream in which ws reads frames; null if it cannot be found. */
export function receiverStream (socket: WebSocket): Writable | null {
  const receiver = receiverOf(socket)
  return receiver instanceof Writable ? receiver : null
}

/** Returns a function that makes `onFragment` be called with each fragment of a socket's messages but the last. */
export function fragmentListener (onFragment: (socket: WebSocket) => void): (socket: WebSocket) => void {
  const sockets = new WeakMap<Receiver, WebSocket>()
  // One function for all receivers, distinguished by `this`: a closure for each would stay as long as the socket.
  function dataMessage (this: Receiver, callback: unknown): unknown {
    if (!this._fin) {
      const socket = sockets.get(this)
      if (socket !== undefined) onFragment(socket)
    }
    return (Object.getPrototypeOf(this) as Receiver).dataMessage.call(this, callback)
  }
  return (socket) => {
    const receiver = receiverOf(socket)
    if (receiver === null) return
    sockets.set(receiver, socket)
    receiver.dataMessage = dataMessage
  }
}
