import type { Device } from '../../lib/schemas.js'

/** The guide's four browsers, in an order in which none is taken for another: Edge and Chrome also say Safari. */
const browsers: Array<[name: string, sign: RegExp]> = [
  ['Edge', /\bEdg(e|A|iOS)?\//],
  ['Firefox', /\b(Firefox|FxiOS)\//],
  ['Chrome', /\b(Chrome|CriOS|Chromium)\//],
  ['Safari', /\bSafari\//]
]

/** Browser and kind of device, as far as a User-Agent tells; a client that is no browser counts as `web`. */
export function readUserAgent (header: string | undefined): { browser: string | null, device: Device } {
  const agent = header ?? ''
  const browser = browsers.find(([, pattern]) => pattern.test(agent))?.[0] ?? null
  if (/\b(iPad|Tablet)\b|Android(?!.*Mobile)/.test(agent)) return { browser, device: 'tablet' }
  if (/\b(Mobi|Mobile|iPhone|iPod|Android)\b/.test(agent)) return { browser, device: 'mobile' }
  return { browser, device: browser === null ? 'web' : 'desktop' }
}
