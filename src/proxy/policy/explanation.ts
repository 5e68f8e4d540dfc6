/** What the policy would say of a flow, and why: for people who ask. Nothing is counted. */

import { type Address, formatAddress, parseAddress } from '../../stack/wire/address.ts';
import type { DenyReason, Policy, Verdict } from '../policy.ts';
import { formatPolicyRule, type PolicyProtocol } from './rule.ts';

export interface PolicyQuestion {
  readonly protocol: PolicyProtocol;
  readonly port: number;
  readonly direction: 'out' | 'in';
  /** A name that the address is asked about as, as if the network's resolver had just given it. */
  readonly name?: string;
}

export interface PolicyAnswer extends PolicyQuestion {
  readonly address: string;
  readonly allowed: boolean;
  /** Where the host would dial, when that is another address. */
  readonly dialled?: string;
  readonly reason?: DenyReason;
  /** The rule that decided, and its number from 1; undefined: none did. */
  readonly rule?: string;
  readonly number?: number;
  /** What the guest would get. */
  readonly answer?: string;
}

/** Of a flow to `host`: an address, or a name of the network's own, which may have several; undefined: it is neither. */
export function checkPolicy(policy: Policy, host: string, question: PolicyQuestion): PolicyAnswer[] | undefined {
  const literal = parseAddress(host);
  const addresses = literal ? [literal] : policy.addressesOf(host);
  return addresses?.map((address) => explain(policy, address, question));
}

function explain(policy: Policy, address: Address, question: PolicyQuestion): PolicyAnswer {
  const { name, ...flow } = question;
  const verdict = policy.check(address, { ...flow, ...(name !== undefined && { resolvedName: name }) });
  const text = formatAddress(address);
  const dialled = formatAddress(verdict.address);
  const rule = verdict.rule === undefined ? undefined : policy.rules[verdict.rule - 1];
  return {
    ...question,
    address: text,
    allowed: verdict.allowed,
    ...(dialled !== text && { dialled }),
    ...(verdict.reason && { reason: verdict.reason }),
    ...(rule && verdict.rule !== undefined && { rule: formatPolicyRule(rule), number: verdict.rule }),
    ...(verdict.answer && question.direction === 'out' && { answer: answerWords(verdict.answer, question.protocol) }),
  };
}

function answerWords(answer: NonNullable<Verdict['answer']>, protocol: PolicyProtocol): string {
  if (answer === 'reset' && protocol === 'tcp') return 'RST';
  return `ICMP ${{ reset: 'port unreachable', unreachable: 'host unreachable', prohibited: 'administratively prohibited' }[answer]}`;
}
