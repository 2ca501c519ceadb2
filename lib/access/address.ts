import { BlockList, isIP } from 'node:net'
import { BoundedMap } from '../async/bounded-map.js'

/** Loopback, private and link-local networks: such an address may be a proxy, a whole office, or a developer. */
const privateNetworks = new BlockList()
for (const [network, prefix] of [['::1', 128], ['fc00::', 7], ['fe80::', 10]] as const) privateNetworks.addSubnet(network, prefix, 'ipv6')

/** The same for IPv4: `BlockList` makes an object each time. */
function isPrivateIPv4 (address: string): boolean {
  const [first = 0, second = 0] = address.split('.', 2).map(Number)
  return first === 10 || first === 127 || (first === 169 && second === 254) || (first === 172 && second >= 16 && second < 32) ||
    (first === 192 && second === 168) || (first === 100 && second >= 64 && second < 128)
}

/** An IPv4 address that came in over an IPv6 socket. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** A client's address as limits see it. */
export interface ClientAddress {
  /** What they count by: an IPv4 address, or the /64 network of an IPv6 one, which belongs to one subscriber. */
  key: string
  /** Loopback, private and link-local. */
  isPrivate: boolean
}

/** Most requests come from few addresses (one proxy, an office), and each asks several times. */
const known = new BoundedMap<string, ClientAddress>(10_000)

export function clientAddress (address: string): ClientAddress {
  const found = known.get(address)
  if (found !== undefined) return found
  const described = { key: keyOf(address), isPrivate: isPrivate(address) }
  // A proxy's header may hold any text; an address is short.
  if (address.length <= 64) known.set(address, described)
  return described
}

function isPrivate (address: string): boolean {
  const plain = MAPPED.exec(address)?.[1] ?? address
  const family = isIP(plain)
  // What is no address (a test's socket, a Unix socket) has no network to be limited by.
  if (family === 4) return isPrivateIPv4(plain)
  return family === 0 || privateNetworks.check(plain, 'ipv6')
}

function keyOf (address: string): string {
  const plain = MAPPED.exec(address)?.[1] ?? address
  if (isIP(plain) !== 6) return plain
  const [head = '', tail] = (plain.split('%')[0] ?? '').split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? before : [...before, ...Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0'), ...after]
  return groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(':')
}
