/** RFC 9293's state machine: the stack against a model of it that shares no code with it. */

import t from 'tap';
import { assertRecorded } from '../stack/recorded-stack.ts';
import { agreement } from './model-property.ts';

const STATES = [
  'SYN-SENT',
  'SYN-RECEIVED',
  'ESTABLISHED',
  'FIN-WAIT-1',
  'FIN-WAIT-2',
  'CLOSE-WAIT',
  'CLOSING',
  'LAST-ACK',
  'TIME-WAIT',
  'CLOSED',
];

t.test('3.10.7: the stack and a model of the state machine agree on random segments and calls', async (t) => {
  const seen = new Map<string, number>();
  assertRecorded('model', agreement(seen), { numRuns: 3000 });
  for (const state of STATES) {
    const visits = seen.get(state) ?? 0;
    t.ok(visits > 20, `${state} was visited ${visits} times`);
  }
});
