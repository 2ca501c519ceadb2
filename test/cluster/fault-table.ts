import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { temporaryFolder } from '../exit-hooks.js'
import { startChild } from '../child-process.js'
import type { FaultFigures } from './faults.js'

// Runs every test that breaks Redis or MariaDB under load, and prints what was measured as the table of docs/operations.md.
const FOLDER = 'test/cluster'
const files = readdirSync(FOLDER).filter((name) => name.endsWith('.test.ts') && readFileSync(join(FOLDER, name), 'utf8').includes("from './faults.js'"))
const figures = join(temporaryFolder('faults'), 'figures')

for (const name of files) {
  const child = await startChild(process.execPath, ['--import', 'tsx', 'test/run.ts', join(FOLDER, name)], { env: { ...process.env, FAULT_FIGURES: figures, TEST_DATA_FOLDER: tmpdir() } })
  const { code } = await child.exited
  if (code !== 0) console.error(child.output())
}
const lines = existsSync(figures) ? readFileSync(figures, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as FaultFigures) : []
rmSync(figures, { force: true })

const seconds = (ms: number | null): string => ms === null ? 'no alarm' : `${(ms / 1000).toFixed(1)} s`
console.log('| fault | unhealthy after | healthy again after its end | acked | refused | lost | delivered twice |')
console.log('|---|---|---|---|---|---|---|')
for (const { name, unhealthyAfter, healthyAfter, acked, refused, lost, toldTwice } of lines.sort((a, b) => a.name < b.name ? -1 : 1)) {
  console.log(`| ${name} | ${seconds(unhealthyAfter)} | ${seconds(healthyAfter)} | ${acked} | ${refused} | ${lost} | ${toldTwice} |`)
}
