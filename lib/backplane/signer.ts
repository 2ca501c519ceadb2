import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'

const ALGORITHM = 'sha256'
const SIGNATURE_LENGTH = 32
const NONE = Buffer.alloc(0)

/**
 * Signs what this node sends and checks what it hears, with the core's `secret`. A signature covers the topic, so that a
 * message cannot be played again on another channel or to another node. Without a secret nothing is signed, and
 * everything is accepted.
 */
export class Signer {
  /** Bytes of each signature; 0 where nothing is signed. */
  readonly length: number
  readonly #keys: readonly KeyObject[]

  /** The first secret signs, all verify. */
  constructor (secrets: readonly string[]) {
    this.#keys = secrets.map((secret) => createSecretKey(Buffer.from(secret)))
    this.length = secrets.length === 0 ? 0 : SIGNATURE_LENGTH
  }

  sign (topic: string, content: Buffer): Buffer {
    const [key] = this.#keys
    return key === undefined ? NONE : signatureOf(key, topic, content)
  }

  accepts (topic: string, content: Buffer, signature: Buffer): boolean {
    if (this.#keys.length === 0) return true
    if (signature.length !== SIGNATURE_LENGTH) return false
    return this.#keys.some((key) => timingSafeEqual(signatureOf(key, topic, content), signature))
  }
}

// No topic contains a line break: where it ends is never in doubt.
const signatureOf = (key: KeyObject, topic: string, content: Buffer): Buffer =>
  createHmac(ALGORITHM, key).update(topic).update('\n').update(content).digest()
