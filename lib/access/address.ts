import { BlockList, isIP } from 'node:net'
import { BoundedMap } from '../async/bounded-map.js'

/** Loopback, private and link-local networks: such an address may be a proxy, a whole office, or a developer. */
const privateNetworks = new BlockList()
for (const [network, prefix] of [['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.168.0.0', 16]] as const) {
  privateNetworks.addSubnet(network, prefix, 'ipv4')
}
for (const [network, prefix] of [['::1', 128], ['fc00::', 7], ['fe80::', 10]] as const) privateNetworks.addSubnet(network, prefix, 'ipv6')

/** An IPv4 address that came in over an IPv6 socket. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** A client's address as limits see it. */
export interface ClientAddress {
  /** The key of the counters: an IPv4 address, or the /64 network of an IPv6 address, which belongs to one subscriber. */
  key: string
  /** Loopback, private and link-local. */
  isPrivate: boolean
}

/** Cached, because most requests come from few addresses (one proxy, an office). */
const known = new BoundedMap<string, ClientAddress>(10_000)

export function clientAddress (address: string): ClientAddress {
  const found = known.get(address)
  if (found !== undefined) return found
  const plain = MAPPED.exec(address)?.[1] ?? address
  const family = isIP(plain)
  const described = {
    key: family === 6 ? networkOf(plain) : plain,
    // Other values (of a test's socket, a Unix socket) are not limited.
    isPrivate: family === 0 || privateNetworks.check(plain, family === 4 ? 'ipv4' : 'ipv6')
  }
  // A proxy's header may hold any text; an address is short.
  if (address.length <= 64) known.set(address, described)
  return described
}

/** The /64 network of an IPv6 address. */
function networkOf (address: string): string {
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? before : [...before, ...Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0'), ...after]
  return groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(':')
}
