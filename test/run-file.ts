import { startChild } from './child-process.js'
import { dataFolder, temporaryFolder } from './exit-hooks.js'
import { tapResults, type Results } from './tap-results.js'

export interface FileResults extends Results {
  file: string
  seconds: number
  stderr: string
}

const TIMEOUT = Number(process.env.TEST_TIMEOUT ?? 240)
// tap ends a file that takes too long and names what keeps it busy, but a blocked event loop never gets there.
const LAST_RESORT = 2 * TIMEOUT

/** Runs one test file in a process of its own. `script`: the file as plain JavaScript. */
export async function runFile (file: string, script?: string): Promise<FileResults> {
  // A test process that is killed leaves the removal of its folders to this one.
  const folders = { TEST_FOLDER: temporaryFolder('test'), TEST_DATA_FOLDER: dataFolder('test') }
  const started = performance.now()
  const child = await startChild(process.execPath, ['--disable-warning=ExperimentalWarning', ...script === undefined ? ['--import', 'tsx', file] : ['--enable-source-maps', script]], {
    env: { ...process.env, TAP_TIMEOUT: String(TIMEOUT), ...folders }
  })
  const { parser, finish } = tapResults(file)
  child.stdout.pipe(parser)
  let stderr = ''
  child.stderr.on('data', (text: string) => (stderr += text))

  const timer = setTimeout(() => void child.kill(), LAST_RESORT * 1000)
  const { code, signal } = await child.exited
  clearTimeout(timer)
  const fault = code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}`
  return { file, ...finish (fault), seconds: (performance.now() - started) / 1000, stderr }
}
