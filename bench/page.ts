import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Results {
  date: string
  machine: string
  node: string
  versions: Record<string, string>
  command: string
  results: Array<{ name: string, work: string, unit: string, medians: Record<string, number>, bars: Array<{ text: string, held: boolean }> }>
}

const PAGE = join(import.meta.dirname, '../docs/speed.md')
const [BEGIN, END] = ['<!-- figures of bench/results.json -->\n', '<!-- end of figures -->\n']

/** The figures as docs/speed.md shows them. */
export function table ({ date, machine, node, versions, command, results }: Results): string {
  const rows = results.map(({ name, work, unit, medians, bars }) => {
    const figures = Object.entries(medians).map(([peer, value]) => peer.startsWith('fastify-realtime') ? `**${peer} ${show(value)}**` : `${peer} ${show(value)}`)
    return `| ${name} | ${work} | ${unit} | ${figures.join(', ')} | ${bars.map(({ text, held }) => `${text} ${held ? '✓' : '✗'}`).join('; ')} |`
  })
  const others = Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(', ')
  return `| | work | unit | medians | the goal, and whether it is met |\n|---|---|---|---|---|\n${rows.join('\n')}\n\n` +
    `Measured on ${date} by \`${command}\` on ${machine}, Node ${node}, with ${others}.\n`
}

/** Puts the figures between their marks in docs/speed.md. */
export function writePage (results: Results): void {
  const text = readFileSync(PAGE, 'utf8')
  const [from, to] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)]
  if (from < BEGIN.length || to < from) throw new Error('docs/speed.md has lost its marks for the figures')
  writeFileSync(PAGE, text.slice(0, from) + table(results) + text.slice(to))
}

export function show (value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
