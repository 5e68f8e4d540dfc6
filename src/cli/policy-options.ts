/** Options of the network core alone that say what guests may reach. */

import type { NetworkOptions } from '../network.ts';
import { parsePortRanges } from '../proxy/policy/port-ranges.ts';
import { type PolicyRule, parsePolicyRule } from '../proxy/policy/rule.ts';
import type { HostPorts } from '../proxy/policy.ts';
import { readPolicyFile } from './policy-file.ts';
import { UsageError } from './usage-error.ts';

/** For `parseArgs`. */
export const policyOptions = {
  allow: { type: 'string', multiple: true },
  deny: { type: 'string', multiple: true },
  policy: { type: 'string' },
  'host-ports': { type: 'string' },
} as const;

export const policyHelp = `  --allow RULE          what guests may reach, and
  --deny RULE           what not; may be repeated: the first that is about a flow decides, what none is about is allowed.
                        RULE is [out|in] [tcp|udp|icmp] [ADDRESS|CIDR|NAME|any] [port PORT[-LAST],...]; 'in' is about
                        clients of published ports; example.org is that name, *.example.org those below it
  --policy FILE         rules of a file, after those: one a line, with allow or deny before it; '#' begins a comment.
                        Changes of the file hold within a second, also for what is open
  --host-ports PORTS    ports of the host that guests may have at host.docker.internal and at its other addresses: a
                        list such as 5432,8000-8100, all or none (default: all but Docker's API, 2375 and 2376)
`;

/** As `parseArgs` gives them: it alone says in which order --allow and --deny came. */
export type OptionToken = { readonly kind: string; readonly name?: string; readonly value?: string | undefined };

export interface PolicyChoices extends Pick<NetworkOptions, 'policyRules' | 'hostLoopback'> {
  /** With the rules that go before it. */
  readonly policyFile: { readonly path: string; readonly before: readonly PolicyRule[] } | undefined;
}

interface PolicyValues {
  readonly policy?: string | undefined;
  readonly 'host-ports'?: string | undefined;
}

export function readPolicyOptions(
  { policy, 'host-ports': ports }: PolicyValues,
  tokens: readonly OptionToken[],
): PolicyChoices {
  const rules: PolicyRule[] = [];
  for (const { kind, name, value = '' } of tokens)
    if (kind === 'option' && (name === 'allow' || name === 'deny'))
      rules.push(reading(`--${name}: `, () => parsePolicyRule(`${name} ${value}`)));
  const inFile = policy === undefined ? [] : reading(`--policy ${policy}: `, () => readPolicyFile(policy));
  return {
    policyFile: policy === undefined ? undefined : { path: policy, before: [...rules] },
    ...(rules.length + inFile.length > 0 && { policyRules: [...rules, ...inFile] }),
    ...(ports !== undefined && { hostLoopback: hostPorts(ports) }),
  };
}

function reading<T>(prefix: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(prefix + (error as Error).message);
  }
}

function hostPorts(text: string): HostPorts {
  if (text === 'none') return { mode: 'ask' };
  if (text === 'all') return { mode: 'all' };
  const ports = parsePortRanges(text);
  if (!ports || ports.length === 0)
    throw new UsageError(`--host-ports: '${text}' is no list of ports such as 5432,8000-8100, nor all or none`);
  return { mode: 'list', ports };
}
