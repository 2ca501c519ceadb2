import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }

const hooks = new Set<() => void>()
let listening = false

/** Runs `hook` when this process ends, the newest first; returns a function that forgets it. */
export function atExit (hook: () => void): () => void {
  if (!listening) listen()
  hooks.add(hook)
  return () => void hooks.delete(hook)
}

/** A folder that is gone when this process is, in `TEST_FOLDER` or else in the system's temporary one. */
export const temporaryFolder = (prefix: string): string => folderIn(process.env.TEST_FOLDER ?? tmpdir(), prefix)

/** The same for what a database server writes, in `TEST_DATA_FOLDER` if that is set. */
export const dataFolder = (prefix: string): string => folderIn(process.env.TEST_DATA_FOLDER ?? process.env.TEST_FOLDER ?? tmpdir(), prefix)

/**
 * Where nothing waits for a disk, yet files outlive a server that is killed, as on a disk. The system's temporary folder
 * where memory is scarce.
 */
export function memoryFolder (): string {
  const memory = '/dev/shm'
  if (!existsSync(memory)) return tmpdir()
  const { bavail, bsize } = statfsSync(memory)
  return bavail * bsize < ROOM ? tmpdir() : memory
}

/** Bytes: many times what the servers of a run write. */
const ROOM = 4 * 1024 ** 3

function folderIn (parent: string, prefix: string): string {
  const folder = mkdtempSync(join(parent, `${prefix}-`))
  // A server killed a moment ago may still be writing into it.
  atExit(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 }))
  return folder
}

function listen (): void {
  listening = true
  process.once('exit', () => {
    for (const hook of [...hooks].reverse()) hook()
  })
  // A signal without a listener ends the process without its exit event.
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.once(signal, () => process.exit(128 + number))
  }
}
