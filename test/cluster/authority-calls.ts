import { fork } from 'node:child_process'
import { once } from 'node:events'
import { atExit } from '../exit-hooks.js'

type Calls = Record<string, (...args: never[]) => Promise<unknown>>
interface Call { id: number, name: string, args: unknown[] }
interface Answer { id: number, value?: unknown, error?: string }

/** Answers the calls of the process that started this one. */
export function answer (calls: Calls): void {
  const reply = (answer: Answer): void => { process.send?.(answer) }
  process.on('message', ({ id, name, args }: Call) => {
    const call = calls[name] as ((...args: unknown[]) => Promise<unknown>) | undefined
    if (call === undefined) reply({ id, error: `there is no ${name}` })
    else call(...args).then((value) => { reply({ id, value }) }, (err: unknown) => { reply({ id, error: err instanceof Error ? err.stack ?? err.message : String(err) }) })
  })
  process.on('disconnect', () => process.exit())
}

/** A process whose functions are called from here. */
export interface Process {
  readonly pid: number
  call (name: string, ...args: unknown[]): Promise<unknown>
}

export async function startProcess (script: string, env: Record<string, string> = {}): Promise<Process> {
  const { PATH, HOME } = process.env
  const flags = process.env.AUTHORITY_NODE_FLAGS?.split(' ') ?? []
  const child = fork(script, { execArgv: flags, env: { PATH, HOME, NODE_ENV: 'production', ...env } })
  const forget = atExit(() => child.kill('SIGKILL'))
  const waiting = new Map<number, { resolve: (value: unknown) => void, reject: (err: Error) => void }>()
  child.on('message', ({ id, value, error }: Answer) => {
    const call = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) call?.resolve(value)
    else call?.reject(new Error(error))
  })
  child.on('exit', () => {
    forget()
    for (const { reject } of waiting.values()) reject(new Error(`${script} ended`))
  })
  await once(child, 'spawn')
  let ids = 0
  return {
    pid: child.pid ?? 0,
    call: async (name, ...args) => await new Promise((resolve, reject) => {
      const call: Call = { id: ++ids, name, args }
      waiting.set(call.id, { resolve, reject })
      child.send(call)
    })
  }
}
