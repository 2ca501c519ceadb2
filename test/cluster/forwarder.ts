import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'

/** A name that points to one server and later to another: new connections go to the new one, those that are open stay. */
export interface Forwarder {
  readonly port: number
  point (port: number): void
  close (): Promise<void>
}

export async function startForwarder (target: number): Promise<Forwarder> {
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const remote = connect(target, '127.0.0.1')
    for (const socket of [client, remote]) {
      socket.setNoDelay(true)
      open.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        client.destroy()
        remote.destroy()
      })
    }
    client.pipe(remote)
    remote.pipe(client)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    point: (port) => { target = port },
    close: async () => {
      server.close()
      for (const socket of open) socket.destroy()
    }
  }
}
