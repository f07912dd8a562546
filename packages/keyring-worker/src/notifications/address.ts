import { BlockList, isIPv4 } from 'node:net';

/** Addresses that belong to nobody in particular, or to somebody on this side: IANA's special-purpose registries. */
const notPublic = new BlockList();
for (const range of [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
]) {
  const [network = '', prefix] = range.split('/');
  notPublic.addSubnet(network, Number(prefix), 'ipv4');
}
// Teredo and its like, documentation, and 6to4, which holds an IPv4 address.
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  notPublic.addSubnet(network, prefix, 'ipv6');
}

// All that is global unicast. IPv4 in IPv6 (::ffff:…, 64:ff9b::…), loopback, link-local, private and multicast are outside.
const global6 = new BlockList();
global6.addSubnet('2000::', 3, 'ipv6');

/** Is it an address of the public internet? */
export function isPublic(address: string): boolean {
  if (isIPv4(address)) return !notPublic.check(address, 'ipv4');
  return global6.check(address, 'ipv6') && !notPublic.check(address, 'ipv6');
}
