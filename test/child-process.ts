import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { atExit } from './exit-hooks.js'

export interface ExitStatus {
  code: number | null
  signal: NodeJS.Signals | null
}

/** A child process that never outlives this one. */
export interface Child {
  readonly pid: number
  readonly exited: Promise<ExitStatus>
  readonly stdout: Readable
  readonly stderr: Readable
  /** What it wrote to stdout and stderr, the newest 256 KiB. */
  output (): string
  /** The first match in its output; when it exits or takes longer, it is killed and this rejects. */
  waitFor (pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray>
  /** SIGTERM, and SIGKILL when it has not ended in time. */
  stop (timeoutMs: number): Promise<ExitStatus>
  kill (signal?: NodeJS.Signals): Promise<ExitStatus>
  pause (): void
  resume (): void
}

const OUTPUT_LIMIT = 256 * 1024
const SETPRIV = '/usr/bin/setpriv'

// No exit hook runs in a parent that is itself killed with SIGKILL; the kernel's parent-death signal still comes.
const hasParentDeathSignal = process.platform === 'linux' && existsSync(SETPRIV)

export async function startChild (
  command: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}
): Promise<Child> {
  let status: ExitStatus | undefined
  const line = [command, ...args]
  const [file, ...rest] = hasParentDeathSignal ? [SETPRIV, '--pdeathsig', 'KILL', '--', ...line] : line
  // A process group of its own lets signals reach what a script has started.
  const child = spawn(file!, rest, { ...options, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const send = (signal: NodeJS.Signals) => {
    try {
      if (!status) process.kill(-child.pid!, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_LIMIT)
    })
  }

  const exited = new Promise<ExitStatus>((resolve) => {
    child.once('close', (code, signal) => {
      status = { code, signal }
      resolve(status)
    })
  })
  await once(child, 'spawn')
  void exited.then(atExit(() => send('SIGKILL')))

  return {
    pid: child.pid!,
    exited,
    stdout: child.stdout,
    stderr: child.stderr,
    output: () => output,
    async waitFor (pattern, timeoutMs) {
      const deadline = Date.now() + timeoutMs
      while (!status && Date.now() < deadline) {
        const match = pattern.exec(output)
        if (match) return match
        await sleep(10)
      }
      const fault = status ? `exited with ${status.code ?? status.signal}` : `took more than ${timeoutMs} ms`
      send('SIGKILL')
      throw new Error(`${line.join(' ')}: ${fault} before ${pattern} in its output:\n${output.slice(-4000)}`)
    },
    stop (timeoutMs) {
      send('SIGTERM')
      // A frozen process acts on SIGTERM only when it continues.
      send('SIGCONT')
      const timer = setTimeout(() => send('SIGKILL'), timeoutMs)
      return exited.finally(() => clearTimeout(timer))
    },
    kill (signal = 'SIGKILL') {
      send(signal)
      return exited
    },
    pause: () => send('SIGSTOP'),
    resume: () => send('SIGCONT')
  }
}
