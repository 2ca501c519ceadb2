import { show } from './page.js'

interface Result { name: string, unit: string, medians: Record<string, number> }

const ROWS = ['fan-out under load', 'fan-out, one at a time', 'across nodes']
const COLOURS: Record<string, string> = { 'fastify-realtime': '#0f766e', 'socket-io': '#9ca3af', ws: '#c4b5a0', bun: '#d6b98c' }
const [WIDTH, LABEL, BAR, GAP] = [720, 200, 22, 6]

/** The fan-out rows as bars: microseconds of processor time for each message that reaches a member; shorter is better. */
export function chart (results: Result[]): string {
  const parts: string[] = []
  let y = 56
  for (const { name, medians } of results.filter(({ name }) => ROWS.includes(name))) {
    parts.push(`<text x="16" y="${y}" font-weight="600">${name}</text>`)
    y += 12
    const longest = Math.max(...Object.values(medians))
    for (const [peer, value] of Object.entries(medians).sort(([, a], [, b]) => a - b)) {
      const width = Math.max(2, value / longest * (WIDTH - LABEL - 90))
      parts.push(`<text x="${LABEL - 10}" y="${y + 16}" text-anchor="end">${peer}</text>`,
        `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="3" fill="${COLOURS[peer] ?? '#ccc'}"/>`,
        `<text x="${(LABEL + width + 8).toFixed(1)}" y="${y + 16}">${show(value)}</text>`)
      y += BAR + GAP
    }
    y += 26
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="system-ui, sans-serif" font-size="14" fill="#1f2937">
<rect width="100%" height="100%" fill="#fff"/>
<text x="16" y="26" font-size="16" font-weight="600">Server CPU per delivered message, in µs (shorter is better)</text>
${parts.join('\n')}
</svg>
`
}
