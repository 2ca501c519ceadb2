import { BlockList, isIP } from 'node:net'

/** Loopback, private and link-local networks: such an address may be a proxy, a whole office, or a developer. */
const privateNetworks = new BlockList()
for (const [network, prefix] of [['10.0.0.0', 8], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.168.0.0', 16], ['100.64.0.0', 10]] as const) {
  privateNetworks.addSubnet(network, prefix, 'ipv4')
}
for (const [network, prefix] of [['::1', 128], ['fc00::', 7], ['fe80::', 10]] as const) privateNetworks.addSubnet(network, prefix, 'ipv6')

/** An IPv4 address of an IPv6 socket. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

export function isPrivateAddress (address: string): boolean {
  const plain = MAPPED.exec(address)?.[1] ?? address
  const family = isIP(plain)
  // Anything that is not an address (a test's socket, a Unix socket) is not limited.
  return family === 0 || privateNetworks.check(plain, family === 4 ? 'ipv4' : 'ipv6')
}

/** The key of limits per address: an IPv4 address, or the /64 network of an IPv6 one, which belongs to one subscriber. */
export function addressKey (address: string): string {
  const plain = MAPPED.exec(address)?.[1] ?? address
  if (isIP(plain) !== 6) return plain
  const [head = '', tail] = (plain.split('%')[0] ?? '').split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? before : [...before, ...Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0'), ...after]
  return groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(':')
}
