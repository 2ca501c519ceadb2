import { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { Device } from '../../lib/schemas.js'
import type { ClientDescription } from './session.js'

/** The four browsers that are stored, in an order that distinguishes them: Edge and Chrome also contain Safari. */
const browsers: Array<[name: string, sign: RegExp]> = [
  ['Edge', /\bEdg(e|A|iOS)?\//],
  ['Firefox', /\b(Firefox|FxiOS)\//],
  ['Chrome', /\b(Chrome|CriOS|Chromium)\//],
  ['Safari', /\bSafari\//]
]

/** The browser and the kind of device of a User-Agent, if known; a client other than a browser counts as `web`. */
export function readUserAgent (header: string | undefined): { browser: string | null, device: Device } {
  const agent = header ?? ''
  const browser = browsers.find(([, pattern]) => pattern.test(agent))?.[0] ?? null
  if (/\b(iPad|Tablet)\b|Android(?!.*Mobile)/.test(agent)) return { browser, device: 'tablet' }
  if (/\b(Mobi|Mobile|iPhone|iPod|Android)\b/.test(agent)) return { browser, device: 'mobile' }
  return { browser, device: browser === null ? 'web' : 'desktop' }
}

export function describeClient (request: FastifyRequest): ClientDescription {
  const address = request.raw.socket instanceof Socket ? request.ip : null
  const { browser, device } = readUserAgent(request.headers['user-agent'])
  // idle memory: no spread, which would create a hidden class per client.
  return { browser, device, ipAddress: address }
}
