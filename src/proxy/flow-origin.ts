/** What the policy's part in a flow looks like in its record. */

import type { FlowOrigin } from '../stack/port.ts';
import { formatPolicyRule, type PolicyRule } from './policy/rule.ts';

export function originOf(direction: 'out' | 'in', rule: PolicyRule | undefined, client?: string): FlowOrigin {
  return {
    direction,
    ...(client !== undefined && { client }),
    ...(rule && { rule: formatPolicyRule(rule) }),
  };
}
