/**
 * What a setting's text must be like: each check says what is wrong with one, or nothing. Whoever uses a setting reads it
 * with a parser of its own; tests hold both against each other.
 */

const list = (value: string): string[] =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

export function checkSubnet(value: string): string | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(value);
  if (!match) return 'is not a subnet such as 192.168.65.0/24';
  const octets = match.slice(1, 5).map(Number);
  const prefix = Number(match[5]);
  if (octets.some((octet) => octet > 255)) return 'has a number above 255';
  if (prefix < 16 || prefix > 28) return 'must have a prefix length from 16 to 28';
  const address = ((octets[0]! << 24) | (octets[1]! << 16) | (octets[2]! << 8) | octets[3]!) >>> 0;
  if ((address & (0xffffffff >>> prefix)) !== 0) return 'has host bits set';
  return undefined;
}

const subnet6 = /^(?:f[cd]|[23])[0-9a-f]{0,3}(?::[0-9a-f]{1,4}){0,3}::\/64$/i;

export function checkSubnet6(value: string): string | undefined {
  if (value === 'auto' || value === 'off' || subnet6.test(value)) return undefined;
  return 'is not a /64 such as fd00:1:2:3::/64, auto or off';
}

export function checkPorts(value: string): string | undefined {
  for (const item of list(value)) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(item);
    if (!match) return `has '${item}', which is neither a port nor a range such as 8000-8100`;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first < 1 || last > 65535 || first > last) return `has '${item}', which is outside 1 to 65535`;
  }
  return undefined;
}

const ipv4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;
const ipv6 = /^(?=.*:)(?=.*[0-9a-f:]$)[0-9a-f:]{2,39}(?:%[\w.-]+)?$/i;

export function checkAddresses(value: string): string | undefined {
  for (const item of list(value))
    if (!ipv4.test(item) && !ipv6.test(item)) return `has '${item}', which is not an IP address`;
  return undefined;
}

export function checkServers(value: string): string | undefined {
  for (const item of list(value)) {
    const [, address, port] = /^([^#]*)(?:#(\d{1,5}))?$/.exec(item) ?? [];
    if (!address || (!ipv4.test(address) && !ipv6.test(address)) || Number(port ?? 53) > 65535 || port === '0')
      return `has '${item}', which is not ADDRESS or ADDRESS#PORT`;
  }
  return undefined;
}

const hostLabels = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/i;
const items = (value: string): string[] =>
  value
    .split(/[;\n]/)
    .map((item) => item.trim())
    .filter((item) => item !== '');

export function checkZones(value: string): string | undefined {
  const seen = new Set<string>();
  for (const item of items(value)) {
    const [zone = '', servers = '', more] = item.split('=');
    const name = zone
      .trim()
      .replace(/^\*?\./, '')
      .replace(/\.$/, '')
      .toLowerCase();
    const problem = checkServers(servers);
    if (!hostLabels.test(name) || more !== undefined || list(servers).length === 0)
      return `has '${item}', which is not ZONE=ADDRESS[#PORT],...`;
    if (problem) return problem;
    if (seen.has(name)) return `has the zone '${name}' twice`;
    seen.add(name);
  }
  return seen.size > 256 ? 'has more than 256 zones' : undefined;
}

export function checkRecords(value: string): string | undefined {
  const seen = new Set<string>();
  for (const item of items(value)) {
    const [name = '', values = '', more] = item.split('=').map((part) => part.trim());
    const each = values.split(',').map((one) => one.trim());
    const addresses = each.every((one) => isIpv4(one) || isIpv6(one)) && each.length <= 16;
    const alias = each.length === 1 && hostPattern.test(values) && plain(values) !== plain(name);
    if (!hostLabels.test(plain(name.replace(/^\*\./, ''))) || more !== undefined || !(addresses || alias))
      return `has '${item}', which is neither NAME=ADDRESS,... nor NAME=NAME`;
    if (seen.has(plain(name))) return `has '${name}' twice`;
    seen.add(plain(name));
  }
  return seen.size > 4096 ? 'has more than 4096 records' : undefined;
}

/** Without the dot at the end of a name. */
const plain = (name: string): string => name.toLowerCase().replace(/\.$/, '');

export function checkDomains(value: string): string | undefined {
  for (const item of list(value)) if (!hostLabels.test(plain(item))) return `has '${item}', which is no name`;
  return undefined;
}

export function checkPath(value: string): string | undefined {
  return value === '' || value.startsWith('/') ? undefined : 'is not a path from the root, such as /etc/hosts';
}

export function checkHostname(value: string): string | undefined {
  if (/^(?!-)[a-z0-9-]{1,63}(?<!-)$/.test(value)) return undefined;
  return 'is not a host name: 1 to 63 small letters, digits and hyphens';
}

const share = String.raw`\d{1,3}(?:\.\d{1,9})?%`;
const condition = new RegExp(
  `^(?:direction=(?:up|down|both)|to=[0-9a-f.:]{2,39}(?:/\\d{1,3})?|(?:delay|jitter)=\\d{1,5}(?:\\.\\d{1,9})?(?:us|ms|s)|` +
    `(?:loss|reorder|duplicate|corrupt)=${share}|burst=${share}/${share}(?:/${share})?|` +
    `rate=\\d{1,12}(?:\\.\\d{1,9})?[kmg]?bit|queue=\\d{1,9}[km]?|seed=\\d{1,9})$`,
  'i',
);

/** Its form; what the network makes of it is said when it takes it over. */
export function checkConditions(value: string): string | undefined {
  for (const rule of value.split(';').filter((words) => words.trim() !== ''))
    for (const part of list(rule))
      if (!condition.test(part)) return `has '${part}', which is not a condition such as delay=40ms or loss=1%`;
  return undefined;
}

const words = /^(?:allow|deny)(?: (?:out|in))?(?: (?:tcp|udp|icmp))?(?: (?!port(?: |$))(\S+))?(?: port (\S+))?$/;
const cidr = /^(.*)\/(0|[1-9]\d{0,2})$/;
const pattern = /^(?=.{1,253}$)(?:\*?\.)?(?:[a-z0-9_*-]{1,63}\.)*(?!(?:\*|\d+|0x[0-9a-f]*)\.?$)[a-z0-9_*-]{1,63}\.?$/i;

/** Without zeros before a number, which some read as octal. */
const isIpv4 = (value: string): boolean => ipv4.test(value) && !/(?:^|\.)0\d/.test(value);

/** RFC 4291 2.2, without a zone. */
function isIpv6(value: string): boolean {
  const sides = value.replace(/:[\d.]+$/, (tail) => (isIpv4(tail.slice(1)) ? ':0:0' : tail)).split('::');
  const groups = sides.flatMap((side) => (side === '' ? [] : side.split(':')));
  if (!value.includes(':') || sides.length > 2 || !groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group)))
    return false;
  return sides.length === 2 ? groups.length < 8 : groups.length === 8;
}

export function checkRules(value: string): string | undefined {
  const rules = value
    .split(/\r?\n/)
    .flatMap((line) => line.replace(/#.*$/, '').split(';'))
    .map((rule) => rule.trim().replace(/\s+/g, ' '))
    .filter((rule) => rule !== '');
  for (const rule of rules) {
    const [whole, target = 'any', ports] = words.exec(rule) ?? [];
    const form = 'allow|deny [out|in] [tcp|udp|icmp] [ADDRESS|CIDR|NAME|any] [port PORT[-LAST],...]';
    if (whole === undefined || !rule.includes(' ')) return `has '${rule}': a rule is ${form}`;
    const [, network = target, bits = '0'] = cidr.exec(target) ?? [];
    const address = isIpv4(network) ? Number(bits) <= 32 : isIpv6(network) && Number(bits) <= 128;
    const known = address || (pattern.test(target) && !/^(?:allow|deny|out|in|tcp|udp|icmp|any|port)$/.test(target));
    if (target !== 'any' && !known) return `has '${rule}': '${target}' is no address, network or name`;
    if (!address && target !== 'any' && / in /.test(rule)) return `has '${rule}': clients are known by address alone`;
    if (ports !== undefined && (checkPorts(ports) || list(ports).length === 0))
      return `has '${rule}': '${ports}' is no list of ports such as 80,8000-8100`;
    if (ports !== undefined && / icmp /.test(rule)) return `has '${rule}': ICMP has no ports`;
  }
  return rules.length > 1024 ? 'has more than 1024 rules' : undefined;
}

const port = (digits: string | undefined): boolean =>
  digits === undefined || (Number(digits) > 0 && Number(digits) < 65536);
const hostPattern =
  /^(?=.{1,253}$)(?:[a-z0-9_][a-z0-9_-]{0,62}\.)*(?!(?:\d+|0x[0-9a-f]*)\.?$)[a-z0-9_][a-z0-9_-]{0,62}\.?$/i;

/** `http://proxy.example.org:3128`; with TLS to the proxy, `https://`. */
export function checkProxy(value: string): string | undefined {
  if (value === '') return undefined;
  if (value.includes('@'))
    return 'has a user in it, and the guest may read settings: put USER:PASSWORD in $SLIPWAY_HOME/proxy.credential (mode 600)';
  const [, written = '', digits] = /^(?:https?:\/\/)?(\[[^\]]+\]|[^:/?#\s]+)(?::(\d{1,5}))?\/?$/i.exec(value) ?? [];
  const inner = /^\[(.*)\]$/.exec(written)?.[1];
  const good = inner === undefined ? isIpv4(written) || hostPattern.test(written) : isIpv6(inner);
  return good && port(digits) ? undefined : 'is not a proxy such as http://proxy.example.org:3128';
}

export function checkNoProxy(value: string): string | undefined {
  for (const item of value.split(/[\s,]+/).filter((word) => word !== '' && word !== '*')) {
    const [, network = item, bits] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(item) ?? [];
    const address = isIpv4(network) ? Number(bits ?? 32) <= 32 : isIpv6(network) && Number(bits ?? 128) <= 128;
    const [, written = '', digits] = /^(\[[^\]]+\]|[^:/]+)(?::(\d{1,5}))?$/.exec(item) ?? [];
    const inner = /^\[(.*)\]$/.exec(written)?.[1];
    const bare = written.replace(/^\*?\./, '');
    const host = inner === undefined ? isIpv4(bare) || hostPattern.test(bare) : isIpv6(inner);
    if (!address && !(host && port(digits))) return `has '${item}', which is no name, address or network`;
  }
  return undefined;
}

export function checkEntrance(value: string): string | undefined {
  if (value === '' || value === 'socket') return undefined;
  const [, octets = '', port] = /^(?:127\.(\d{1,3}\.\d{1,3}\.\d{1,3})|\[::1\]):(\d{1,5})$/.exec(value) ?? [];
  if (port === undefined || octets.split('.').some((octet) => Number(octet) > 255))
    return 'is neither socket nor a loopback address and port such as 127.0.0.1:1080';
  return Number(port) < 1 || Number(port) > 65535 ? 'has a port outside 1 to 65535' : undefined;
}
