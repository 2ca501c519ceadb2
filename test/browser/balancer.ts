import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

/** A load balancer: each connection goes to a node that takes it. */
export interface Balancer {
  readonly url: string
  /** The index of the node that is tried first. */
  first: number
}

export async function startBalancer (t: Test, ports: number[]): Promise<Balancer> {
  const open = new Set<Socket>()
  const server = createServer((client) => {
    hold(client)
    pass(client, [...ports.slice(balancer.first), ...ports.slice(0, balancer.first)])
  })
  const hold = (socket: Socket): void => {
    open.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => {}) // told by its close
    socket.on('close', () => { open.delete(socket) })
  }
  const pass = (client: Socket, [port = 0, ...others]: number[]): void => {
    const node = connect(port, '127.0.0.1')
    hold(node)
    let isThere = false
    node.on('connect', () => {
      isThere = true
      client.pipe(node).pipe(client)
    })
    node.on('close', () => {
      if (isThere || others.length === 0) client.destroy()
      else pass(client, others)
    })
    client.on('close', () => { node.destroy() })
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  const balancer: Balancer = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, first: 0 }
  return balancer
}
