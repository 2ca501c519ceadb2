import { once } from 'node:events'
import { connect, createServer, type Server as TcpServer, type Socket } from 'node:net'
import { freePort } from '../free-port.js'

/** One connection through the proxy. */
export interface Link {
  /** Breaks it off on both sides, at once. */
  cut (): void
  /** From now on nothing passes, in either direction, and nobody is told. */
  stall (): void
  /** Ends the stall; what waited passes on, in one piece. */
  resume (): void
  /** The next bytes from the server are dropped and the connection breaks: what was asked was done, and the answer is lost. */
  cutAtAnswer (): void
}

/** Looks at what a client sends before it is passed on; false: it is not. */
export type Inspect = (bytes: Buffer, link: Link) => boolean

/** A TCP proxy whose connections can be broken. */
export interface Proxy {
  readonly port: number
  /** Connections that are open now. */
  readonly links: ReadonlySet<Link>
  /** What every client's bytes go through. */
  inspect: Inspect
  /** Cuts all that is open. */
  cut (): void
  /** All that is open, and all that comes, passes nothing until `resume`. */
  stall (): void
  /** Ends every stall; what waited passes on. */
  resume (): void
  /** New connections are refused, as by a server that is not there, until `accept`. */
  refuse (): Promise<void>
  accept (): Promise<void>
  close (): Promise<void>
}

export async function startProxy (target: number): Promise<Proxy> {
  const port = await freePort()
  const links = new Set<Pair>()
  let stalled = false
  let server: TcpServer | null = null

  const proxy: Proxy = {
    port,
    links,
    inspect: () => true,
    cut: () => { for (const link of links) link.cut() },
    stall: () => {
      stalled = true
      for (const link of links) link.stall()
    },
    resume: () => {
      stalled = false
      for (const link of links) link.resume()
    },
    async refuse () {
      if (server === null) return
      // Closed when its connections are; the port is free at once.
      server.close()
      server = null
    },
    async accept () {
      if (server !== null) return
      server = createServer((client) => {
        const link: Pair = new Pair(client, target, (bytes) => proxy.inspect(bytes, link), () => { links.delete(link) })
        links.add(link)
        if (stalled) link.stall()
      })
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    async close () {
      await proxy.refuse()
      proxy.cut()
    }
  }
  await proxy.accept()
  return proxy
}

class Pair implements Link {
  readonly #client: Socket
  readonly #server: Socket
  #stalled = false
  #dropAnswer = false

  constructor (client: Socket, target: number, inspect: (bytes: Buffer) => boolean, gone: () => void) {
    this.#client = client
    this.#server = connect(target, '127.0.0.1')
    for (const socket of [this.#client, this.#server]) {
      socket.setNoDelay(true)
      socket.on('error', () => { this.cut() })
      socket.on('close', () => {
        this.cut()
        gone()
      })
    }
    this.#client.on('data', (bytes) => { if (inspect(bytes)) this.#server.write(bytes) })
    this.#server.on('data', (bytes) => {
      if (this.#dropAnswer) this.cut()
      else this.#client.write(bytes)
    })
  }

  cut (): void {
    if (!this.#client.destroyed) this.#client.resetAndDestroy()
    if (!this.#server.destroyed) this.#server.destroy()
  }

  stall (): void {
    this.#stalled = true
    this.#client.pause()
    this.#server.pause()
  }

  resume (): void {
    if (!this.#stalled) return
    this.#stalled = false
    this.#client.resume()
    this.#server.resume()
  }

  cutAtAnswer (): void {
    this.#dropAnswer = true
  }
}
