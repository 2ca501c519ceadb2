import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { temporaryFolder } from '../exit-hooks.js'

const execute = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const folder = temporaryFolder('compatibility')
// What npm tells its scripts would lead an npm within them back to this repository.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(?!config_(cache|registry))|INIT_CWD|NODE_OPTIONS)/i.test(name)))

/** A folder of its own with the packed client, and whatever else npm installs there. */
export interface Project {
  readonly folder: string
  write (files: Record<string, string>): void
  /** The standard output. Rejects with all output where it fails. */
  run (command: string, args: string[], variables?: Record<string, string>): Promise<string>
  version (name: string): string
}

let tarball: Promise<string> | undefined
const pack = async (): Promise<string> => {
  const { stdout } = await execute('npm', ['pack', '--pack-destination', folder], { cwd: join(ROOT, 'client'), env })
  return join(folder, stdout.trim().split('\n').at(-1) ?? '')
}

export async function createProject (name: string, packages: readonly string[], type: 'module' | 'commonjs' = 'module'): Promise<Project> {
  const own = join(folder, name)
  mkdirSync(own)
  const project: Project = {
    folder: own,
    write: (files) => {
      for (const [file, text] of Object.entries(files)) {
        mkdirSync(dirname(join(own, file)), { recursive: true })
        writeFileSync(join(own, file), text)
      }
    },
    run: async (command, args, variables = {}) => {
      const child = execute(command, args, { cwd: own, env: { ...env, ...variables }, maxBuffer: 64 * 1024 * 1024, timeout: 300_000 })
      try {
        return (await child).stdout
      } catch (err) {
        const { message, stdout, stderr } = err as Error & { stdout: string, stderr: string }
        throw new Error(`${message}\n${stdout}\n${stderr}`)
      }
    },
    version: (name) => (JSON.parse(readFileSync(join(own, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version
  }
  project.write({ 'package.json': JSON.stringify({ private: true, type }) })
  cpSync(join(ROOT, 'test/compatibility/client-scenario.js'), join(own, 'scenario.mjs'))
  project.write({ 'scenario.cjs': `${readFileSync(join(own, 'scenario.mjs'), 'utf8').replace('export async', 'async')}\nmodule.exports = { scenario }\n` })
  await project.run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', await (tarball ??= pack()), ...packages])
  return project
}
