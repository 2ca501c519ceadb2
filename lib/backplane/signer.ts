import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'

const ALGORITHM = 'sha256'
const SIGNATURE_LENGTH = 32
const NO_SIGNATURE = Buffer.alloc(0)

/**
 * Signs messages and verifies signatures, with the option `secret`. A signature covers the topic, so that a message cannot be
 * replayed on another channel or to another node. Without a secret, messages are not signed and all are accepted.
 */
export class Signer {
  /** Bytes of a signature; 0 without a secret. */
  readonly length: number
  readonly #keys: readonly KeyObject[]

  /** The first secret signs; all verify. */
  constructor (secrets: readonly string[]) {
    this.#keys = secrets.map((secret) => createSecretKey(Buffer.from(secret)))
    this.length = secrets.length === 0 ? 0 : SIGNATURE_LENGTH
  }

  sign (topic: string, content: Buffer): Buffer {
    const [key] = this.#keys
    return key === undefined ? NO_SIGNATURE : signatureOf(key, topic, content)
  }

  accepts (topic: string, content: Buffer, signature: Buffer): boolean {
    if (this.#keys.length === 0) return true
    if (signature.length !== SIGNATURE_LENGTH) return false
    return this.#keys.some((key) => timingSafeEqual(signatureOf(key, topic, content), signature))
  }
}

// A topic contains no line break, so that its end is unambiguous.
const signatureOf = (key: KeyObject, topic: string, content: Buffer): Buffer =>
  createHmac(ALGORITHM, key).update(topic).update('\n').update(content).digest()
