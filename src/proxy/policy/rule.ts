/**
 * A rule of the policy, as users write it:
 *
 *     allow|deny [out|in] [tcp|udp|icmp] [TARGET] [port PORT[-LAST][,...]]
 *
 * TARGET is an address, a network in CIDR form, a name (name-pattern.ts) or `any`. Rules are set apart by line ends or
 * `;`, and `#` begins a comment. `out`, which need not be written, is what guests begin; `in` is what comes to published
 * ports, where TARGET is the client on the host's side and the port is the host's.
 */

import {
  type Address,
  contains,
  formatAddress,
  isIpv4,
  parseAddress,
  parseSubnet,
  type Subnet,
} from '../../stack/wire/address.ts';
import { formatNamePattern, type NamePattern, parseNamePattern } from './name-pattern.ts';
import { formatPortRanges, includesPort, type PortRanges, parsePortRanges } from './port-ranges.ts';

export type PolicyProtocol = 'tcp' | 'udp' | 'icmp';

export interface PolicyRule {
  readonly action: 'allow' | 'deny';
  readonly direction: 'out' | 'in';
  /** Undefined: every one. */
  readonly protocol: PolicyProtocol | undefined;
  /** Undefined: any. */
  readonly target: { readonly subnet: Subnet } | { readonly name: NamePattern } | undefined;
  /** Undefined: every one. */
  readonly ports: PortRanges | undefined;
}

export class PolicyRuleError extends Error {
  readonly code = 'POLICY_RULE';
}

/** No names, so that a word too many is not taken for one. */
const keywords = new Set(['allow', 'deny', 'out', 'in', 'tcp', 'udp', 'icmp', 'any', 'port']);
const MAX_RULES = 1024;
const FORM = 'allow|deny [out|in] [tcp|udp|icmp] [ADDRESS|CIDR|NAME|any] [port PORT[-LAST],...]';

/** Throws a `PolicyRuleError` that names the rule and what is wrong with it. */
export function parsePolicyRules(text: string): PolicyRule[] {
  const rules: PolicyRule[] = [];
  for (const line of text.split(/\r?\n/))
    for (const words of line.replace(/#.*$/, '').split(';'))
      if (words.trim() !== '') {
        if (rules.length === MAX_RULES) throw new PolicyRuleError(`there are more than ${MAX_RULES} rules`);
        rules.push(parsePolicyRule(words));
      }
  return rules;
}

/** One rule; throws a `PolicyRuleError`. */
export function parsePolicyRule(text: string): PolicyRule {
  const words = text.trim().split(/\s+/);
  const wrong = (why: string): PolicyRuleError => new PolicyRuleError(`'${text.trim()}': ${why}`);
  const take = <T extends string>(...choices: readonly T[]): T | undefined =>
    choices.includes(words[0] as T) ? (words.shift() as T) : undefined;

  const action = take('allow', 'deny');
  if (!action) throw wrong(`a rule is ${FORM}`);
  if (words.length === 0) throw wrong(`it says nothing of what to ${action}; '${action} any' is everything`);
  const direction = take('out', 'in') ?? 'out';
  const protocol = take('tcp', 'udp', 'icmp');
  let target: PolicyRule['target'];
  if (words.length > 0 && words[0] !== 'port' && !take('any')) {
    const word = words.shift()!;
    target = parseTarget(word);
    if (!target) throw wrong(`'${word}' is neither an address, a network such as 10.0.0.0/8, a name nor 'any'`);
    if ('name' in target && direction === 'in') throw wrong('clients of published ports are known by address alone');
  }
  let ports: PortRanges | undefined;
  if (take('port')) {
    const list = words.shift() ?? '';
    ports = parsePortRanges(list);
    if (!ports || ports.length === 0) throw wrong(`'${list}' is no list of ports such as 80,8000-8100`);
    if (protocol === 'icmp') throw wrong('ICMP has no ports');
  }
  if (words.length > 0) throw wrong(`'${words.join(' ')}' is too much; a rule is ${FORM}`);
  return { action, direction, protocol, target, ports };
}

function parseTarget(word: string): PolicyRule['target'] {
  const address = parseAddress(word);
  if (address) return { subnet: { address, prefix: 128 } };
  if (/[:/]/.test(word)) {
    const subnet = parseSubnet(word);
    return subnet && { subnet: withoutHostBits(subnet) };
  }
  const name = keywords.has(word) ? undefined : parseNamePattern(word);
  return name && { name };
}

function withoutHostBits({ address, prefix }: Subnet): Subnet {
  const network = address.map((octet, i) => octet & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i))));
  return { address: network, prefix };
}

/** As it is written, with nothing that need not be. */
export function formatPolicyRule({ action, direction, protocol, target, ports }: PolicyRule): string {
  const words: string[] = [action];
  if (direction === 'in') words.push(direction);
  if (protocol) words.push(protocol);
  if (target) words.push('name' in target ? formatNamePattern(target.name) : formatSubnet(target.subnet));
  else if (!protocol && !ports) words.push('any');
  if (ports) words.push('port', formatPortRanges(ports));
  return words.join(' ');
}

/** Whether two rules say the same. Many flows ask about many rules: most are told apart by what their names end in. */
export function isSameRule(a: PolicyRule, b: PolicyRule): boolean {
  return a === b || (suffixOf(a) === suffixOf(b) && formatPolicyRule(a) === formatPolicyRule(b));
}

const suffixOf = ({ target }: PolicyRule): string | undefined =>
  target && 'name' in target ? target.name.suffix : undefined;

/** Of IPv4 alone. */
const ipv4Only = ({ address, prefix }: Subnet): boolean => prefix >= 96 && isIpv4(address);

function formatSubnet(subnet: Subnet): string {
  const { address, prefix } = subnet;
  if (prefix === 128) return formatAddress(address);
  return `${formatAddress(address)}/${ipv4Only(subnet) ? prefix - 96 : prefix}`;
}

/** IPv6 networks are of IPv6 addresses only: ::/0 is not all of IPv4, although its addresses are mapped ones inside. */
export function inRuleSubnet(subnet: Subnet, address: Address): boolean {
  return isIpv4(address) === ipv4Only(subnet) && contains(subnet.address, subnet.prefix, address);
}

/** 0.0.0.0/0 or ::/0. */
export const isWholeFamily = ({ address, prefix }: Subnet): boolean =>
  prefix === 0 || (prefix === 96 && isIpv4(address));

/** Whether a rule's protocol and ports are those of a flow. ICMP has no ports: a rule that names some is not about it. */
export function isAbout({ protocol, ports }: PolicyRule, flow: { protocol: PolicyProtocol; port: number }): boolean {
  if (protocol && protocol !== flow.protocol) return false;
  return !ports || (flow.protocol !== 'icmp' && includesPort(ports, flow.port));
}
