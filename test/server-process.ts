import type { Child } from './child-process.js'

const STOP_TIMEOUT = 30_000

/** A server process on a port of its own; every method that ends it waits until it has ended. */
export interface Server {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Asks it to end. It may be started again with `restart`. */
  stop (): Promise<void>
  kill (signal?: NodeJS.Signals): Promise<void>
  /** Freezes it: connections stay open and nothing answers. */
  pause (): void
  resume (): void
  /** Starts it again on the same port, after stopping it if it runs; `empty` drops its data. */
  restart (options?: { empty?: boolean }): Promise<void>
}

/** A {@link Server} of a process that `start` starts; `clear` drops its data while it is stopped. */
export async function serverOf (
  url: string,
  port: number,
  start: () => Promise<Child>,
  clear: () => Promise<void>
): Promise<Server> {
  let child = await start()
  const stop = async () => {
    await child.stop(STOP_TIMEOUT)
  }
  return {
    url,
    port,
    get pid () {
      return child.pid
    },
    stop,
    async kill (signal = 'SIGKILL') {
      await child.kill(signal)
    },
    pause: () => child.pause(),
    resume: () => child.resume(),
    async restart ({ empty = false } = {}) {
      await stop()
      if (empty) await clear()
      child = await start()
    }
  }
}
