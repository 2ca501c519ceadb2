import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { clusterFor } from './cluster.js'
import { suffer } from './faults.js'
import { startLoad } from './load.js'

/** A file system with little room; null where this user may not mount one. */
function smallDisk (): string | null {
  const folder = mkdtempSync(join(tmpdir(), 'small-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=220m', 'tmpfs', folder], { stdio: 'ignore' })
  } catch {
    return null
  }
  process.once('exit', () => {
    execFileSync('umount', ['-l', folder])
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

const disk = smallDisk()
t.test('MariaDB’s disk is full for a while, under load', { skip: disk === null && 'no file system can be mounted' }, async (t) => {
  if (disk === null) return
  // What the servers write lies there.
  process.env.TEST_DATA_FOLDER = disk
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  const load = await startLoad(t, nodes, { count: 10 })
  const filler = join(disk, 'filler')
  await suffer(t, {
    name: 'MariaDB, disk full',
    cluster,
    nodes,
    load,
    begin: () => {
      try {
        for (let i = 0; ; i++) writeFileSync(`${filler}${i}`, Buffer.alloc(1024 * 1024))
      } catch {
        // Not a byte more.
      }
    },
    meanwhile: async () => { await sleep(3000) },
    end: () => {
      for (let i = 0; existsSync(`${filler}${i}`); i++) rmSync(`${filler}${i}`)
    }
  })
})
