import { once } from 'node:events'
import { connect, createServer, type Server as TcpServer, type Socket } from 'node:net'
import { freePort } from '../free-port.js'

/** One connection through the proxy. */
export interface Link {
  /** Breaks it off on both sides, at once. */
  cut (): void
  /** From now on nothing passes, in either direction, and neither side is notified. */
  stall (): void
  /** Ends the stall; what waited passes on, in one piece. */
  resume (): void
  /**
   * From now on both sides' bytes are accepted and dropped permanently, and the end of one side is not passed on to the
   * other: to each, its peer's host has vanished without a FIN.
   */
  swallow (): void
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
  /**
   * Black hole: swallows every open connection permanently. New connections pass unless `swallowNew` is set; then they are
   * accepted and swallowed too until `unswallow`, without a connection to the server.
   */
  swallow (options?: { swallowNew?: boolean }): void
  /** New connections pass again. Those swallowed so far stay swallowed, as they would in a network. */
  unswallow (): void
  /** New connections go to this port, like a name that now points to another server. Open ones stay where they are. */
  pointTo (port: number): void
  /** Every chunk, in either direction and on open connections too, is passed on this many milliseconds later; 0: at once. */
  delay (ms: number): void
  /** New connections are refused, as by a server that is not there, until `accept`. */
  refuse (): Promise<void>
  accept (): Promise<void>
  close (): Promise<void>
}

export async function startProxy (target: number): Promise<Proxy> {
  const port = await freePort()
  const links = new Set<Pair>()
  // Server sides of swallowed connections outlive their client's end.
  const servers = new Set<Socket>()
  const network = { delay: 0 }
  let stalled = false
  let swallowed = false
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
    swallow ({ swallowNew = false } = {}) {
      swallowed = swallowNew
      for (const link of links) link.swallow()
    },
    unswallow: () => { swallowed = false },
    pointTo: (port) => { target = port },
    delay: (ms) => { network.delay = ms },
    async refuse () {
      if (server === null) return
      // Closed when its connections are; the port is free at once.
      server.close()
      server = null
    },
    async accept () {
      if (server !== null) return
      server = createServer((client) => {
        const upstream = swallowed ? null : connect(target, '127.0.0.1')
        if (upstream !== null) {
          servers.add(upstream)
          upstream.once('close', () => servers.delete(upstream))
        }
        const link: Pair = new Pair(client, upstream, network, (bytes) => proxy.inspect(bytes, link), () => { links.delete(link) })
        links.add(link)
        if (upstream === null) link.swallow()
        else if (stalled) link.stall()
      })
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    async close () {
      await proxy.refuse()
      proxy.cut()
      for (const socket of servers) socket.destroy()
    }
  }
  await proxy.accept()
  return proxy
}

class Pair implements Link {
  readonly #client: Socket
  readonly #server: Socket | null
  readonly #network: { readonly delay: number }
  #stalled = false
  #swallowed = false
  #dropAnswer = false
  readonly #waiting: Record<'up' | 'down', Array<() => void>> = { up: [], down: [] }

  constructor (client: Socket, server: Socket | null, network: { readonly delay: number }, inspect: (bytes: Buffer) => boolean, gone: () => void) {
    this.#client = client
    this.#server = server
    this.#network = network
    for (const socket of [client, server]) {
      if (socket === null) continue
      socket.setNoDelay(true)
      socket.on('error', () => { this.#end() })
      socket.on('close', () => {
        this.#end()
        if (socket === client) gone()
      })
    }
    client.on('data', (bytes) => {
      if (!this.#swallowed && inspect(bytes)) this.#later('up', () => server?.write(bytes))
    })
    server?.on('data', (bytes) => {
      if (this.#swallowed) return
      if (this.#dropAnswer) this.cut()
      else this.#later('down', () => client.write(bytes))
    })
  }

  cut (): void {
    if (!this.#client.destroyed) this.#client.resetAndDestroy()
    if (this.#server?.destroyed === false) this.#server.destroy()
  }

  stall (): void {
    this.#stalled = true
    this.#client.pause()
    this.#server?.pause()
  }

  resume (): void {
    if (!this.#stalled) return
    this.#stalled = false
    this.#client.resume()
    this.#server?.resume()
  }

  swallow (): void {
    this.#swallowed = true
    this.resume()
  }

  cutAtAnswer (): void {
    this.#dropAnswer = true
  }

  /** One side has ended; the other receives it unless the network between them is gone. */
  #end (): void {
    if (!this.#swallowed) this.cut()
  }

  /** Passes on after the delay. Whichever timer fires first, the oldest chunk of its direction is the one that leaves. */
  #later (direction: 'up' | 'down', pass: () => void): void {
    const waiting = this.#waiting[direction]
    if (this.#network.delay === 0 && waiting.length === 0) {
      pass()
      return
    }
    waiting.push(pass)
    setTimeout(() => {
      const next = waiting.shift()
      if (!this.#swallowed) next?.()
    }, this.#network.delay)
  }
}
