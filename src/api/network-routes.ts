/** The operations of the HTTP API that are about a network, with a platform around it or alone. */

import type { PolicyAnswer, PolicyQuestion } from '../proxy/policy/explanation.ts';
import { parseCaptureFilter } from '../stack/link/capture-filter.ts';
import { formatAddress } from '../stack/wire/address.ts';
import type { CaptureRequest } from './capture-stream.ts';
import type { NetworkPort } from './port.ts';
import { RequestError, type Route } from './route.ts';

export const networkRoutes: readonly Route<NetworkPort>[] = [
  {
    method: 'GET',
    path: '/v1/flows',
    summary: 'A record for each live flow of the network, and the drops by reason',
    answers: 'Flows',
    answer: ({ platform }) => ({ json: { flows: platform.flows(), drops: platform.drops() } }),
  },
  {
    method: 'GET',
    path: '/v1/capture',
    summary: "The network's frames from now on, as a pcapng file that grows for as long as it is read",
    query: {
      filter: "Only those that tcpdump's words pick, such as `host 10.0.0.1 and not port 22`",
      snap: 'Octets kept of each frame',
    },
    answers: 'Capture',
    answer: ({ query }) => ({ capture: captureRequest(query) }),
  },
  {
    method: 'GET',
    path: '/v1/dns',
    summary: "Whom guests' names are asked of and how that goes, and the queries of late, the oldest first",
    query: { after: 'Only queries with a number above this one' },
    answers: 'Dns',
    answer: ({ platform, query }) => ({ json: platform.dns(number(query, 'after')) }),
  },
  {
    method: 'GET',
    path: '/v1/policy',
    summary: 'What the guest may reach: rules and how often each decided, ports of the host, what was denied lately',
    answers: 'Policy',
    answer: ({ platform }) => ({ json: platform.policy() }),
  },
  {
    method: 'GET',
    path: '/v1/policy/check',
    summary: 'What the policy says of a flow, and which rule decides; nothing is dialled',
    query: {
      address: 'An address, or a name: then one answer for each address that a guest would be given for it',
      port: 'Of the address; nothing for ICMP',
      protocol: '`tcp` (the default), `udp` or `icmp`',
      direction: "`out` (the default), or `in`: the address is a client of a published port, the port is the host's",
    },
    answers: 'PolicyAnswers',
    answer: async ({ platform, query }) => ({ json: { answers: await checkPolicy(platform, query) } }),
  },
];

async function checkPolicy(platform: NetworkPort, query: URLSearchParams): Promise<PolicyAnswer[]> {
  const host = query.get('address') ?? '';
  const protocol = oneOf(query.get('protocol') ?? 'tcp', 'tcp', 'udp', 'icmp');
  const direction = oneOf(query.get('direction') ?? 'out', 'out', 'in');
  const port = query.get('port') ?? '0';
  const known = protocol === 'icmp' ? '0' : port;
  if (!/^\d{1,5}$/.test(known) || Number(known) > 65535 || (protocol !== 'icmp' && Number(known) === 0))
    throw new RequestError(400, `'${port}' is no port`);
  const question: PolicyQuestion = { protocol, port: Number(known), direction };
  const answers = platform.checkPolicy(host, question);
  if (answers) return [...answers];
  const name = host.toLowerCase().replace(/\.$/, '');
  if (!/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/.test(name)) throw new RequestError(400, `'${host}' is no address and no name`);
  const found = await platform.addressesOf(name);
  if (found.length === 0) throw new RequestError(400, `a guest finds no address for '${name}'`);
  return found.flatMap((address) => platform.checkPolicy(formatAddress(address), { ...question, name }) ?? []);
}

function number(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text !== null && !/^\d{1,15}$/.test(text)) throw new RequestError(400, `'${text}' is no number`);
  return text === null ? undefined : Number(text);
}

function oneOf<T extends string>(word: string, ...choices: readonly T[]): T {
  const found = choices.find((choice) => choice === word);
  if (!found) throw new RequestError(400, `'${word}' is not one of ${choices.join(', ')}`);
  return found;
}

function captureRequest(query: URLSearchParams): CaptureRequest {
  const [filter, snap] = [query.get('filter'), query.get('snap')];
  if (snap !== null && !/^[1-9]\d{0,8}$/.test(snap)) throw new RequestError(400, `'${snap}' is no number of octets`);
  try {
    return {
      filter: filter === null ? undefined : parseCaptureFilter(filter),
      snapOctets: snap === null ? undefined : Number(snap),
    };
  } catch (error) {
    throw new RequestError(400, (error as Error).message);
  }
}
