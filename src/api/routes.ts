/** Every operation of the HTTP API. */

import { lookup } from 'node:dns/promises';
import type { SettingChanges } from '../config/port.ts';
import { type SettingName, schema, settingNames } from '../config/schema.ts';
import { describeSetting, describeSettings } from '../config/setting-description.ts';
import type { PolicyAnswer, PolicyQuestion } from '../proxy/policy/explanation.ts';
import { parseCaptureFilter } from '../stack/link/capture-filter.ts';
import type { CaptureRequest } from './capture-stream.ts';
import { metrics } from './metrics.ts';
import { openApiDocument } from './openapi.ts';
import { type ApiRequest, RequestError, type Route } from './route.ts';

const done = { json: { ok: true } };

export const routes: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/status',
    summary: 'State of the platform: VM, Docker, versions, boot times, sockets, ports, process ids',
    answers: 'Status',
    answer: ({ platform }) => ({ json: platform.status() }),
  },
  {
    method: 'GET',
    path: '/v1/events',
    summary: 'Server-sent events: `status` now and at each change, `settings` at each change of the settings',
    answers: 'EventStream',
    answer: () => ({ events: true }),
  },
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
      address: 'An address, or a name: then one answer for each address that the host finds for it',
      port: 'Of the address; nothing for ICMP',
      protocol: '`tcp` (the default), `udp` or `icmp`',
      direction: "`out` (the default), or `in`: the address is a client of a published port, the port is the host's",
    },
    answers: 'PolicyAnswers',
    answer: async ({ platform, query }) => ({ json: { answers: await checkPolicy(platform, query) } }),
  },
  {
    method: 'GET',
    path: '/v1/ports',
    summary: 'Published ports and the addresses of the host that they are listened on',
    answers: 'Ports',
    answer: ({ platform }) => ({ json: { ports: platform.status().ports } }),
  },
  {
    method: 'GET',
    path: '/v1/config',
    summary: 'Every setting',
    answers: 'Settings',
    answer: async ({ platform }) => {
      await platform.settings.refresh();
      return { json: describeSettings(platform.settings) };
    },
  },
  {
    method: 'PUT',
    path: '/v1/config',
    summary: 'Sets several settings in one commit, all or none',
    takes: 'SettingValues',
    query: { message: "The commit's" },
    answers: 'Done',
    answer: async ({ platform, query, body }) => {
      await change(() => platform.settings.set(settingValues(body), query.get('message') ?? undefined));
      return done;
    },
  },
  {
    method: 'GET',
    path: '/v1/config/{name}',
    summary: 'One setting',
    answers: 'Setting',
    answer: async (request) => {
      const name = settingName(request);
      await request.platform.settings.refresh();
      return { json: describeSetting(request.platform.settings, name) };
    },
  },
  {
    method: 'PUT',
    path: '/v1/config/{name}',
    summary: 'Sets one setting',
    takes: 'SettingValue',
    answers: 'Setting',
    answer: async (request) => {
      const name = settingName(request);
      const value = (request.body as { value?: unknown } | undefined)?.value;
      await change(() => request.platform.settings.set(settingValues({ [name]: value })));
      return { json: describeSetting(request.platform.settings, name) };
    },
  },
  {
    method: 'DELETE',
    path: '/v1/config/{name}',
    summary: 'Puts one setting back to its default',
    answers: 'Setting',
    answer: async (request) => {
      const name = settingName(request);
      await change(() => request.platform.settings.unset([name]));
      return { json: describeSetting(request.platform.settings, name) };
    },
  },
  {
    method: 'POST',
    path: '/v1/restart',
    summary: 'Stops the VM in order and starts it again with the settings as they are now',
    answers: 'Done',
    answer: async ({ platform }) => {
      await platform.restart();
      return done;
    },
  },
  {
    method: 'POST',
    path: '/v1/pause',
    summary: 'Stops the virtual CPUs',
    answers: 'Done',
    answer: async ({ platform }) => {
      await platform.pause();
      return done;
    },
  },
  {
    method: 'POST',
    path: '/v1/resume',
    summary: 'Lets the virtual CPUs go on',
    answers: 'Done',
    answer: async ({ platform }) => {
      await platform.resume();
      return done;
    },
  },
  {
    method: 'POST',
    path: '/v1/shutdown',
    summary: 'Stops the VM in order, then the daemon',
    answers: 'Done',
    answer: async ({ platform }) => {
      await platform.shutdown();
      return done;
    },
  },
  {
    method: 'GET',
    path: '/metrics',
    summary: 'Metrics in the text format of Prometheus',
    answers: 'Metrics',
    answer: ({ platform }) => ({ text: metrics(platform), contentType: 'text/plain; version=0.0.4; charset=utf-8' }),
  },
  {
    method: 'GET',
    path: '/openapi.json',
    summary: 'This description',
    answers: 'Document',
    answer: () => ({ json: openApiDocument(routes) }),
  },
];

async function checkPolicy(platform: ApiRequest['platform'], query: URLSearchParams): Promise<PolicyAnswer[]> {
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
  const found = await lookup(name, { all: true }).catch((error: NodeJS.ErrnoException) => {
    throw new RequestError(400, `the host finds no address for '${name}': ${error.code ?? error.message}`);
  });
  return found.flatMap(({ address }) => platform.checkPolicy(address, { ...question, name }) ?? []);
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

function settingName({ name }: ApiRequest): SettingName {
  if (!Object.hasOwn(schema, name))
    throw new RequestError(404, `there is no setting '${name}'; the settings are ${settingNames.join(', ')}`);
  return name as SettingName;
}

function settingValues(body: unknown): SettingChanges {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new RequestError(400, 'the body must be a JSON object');
  const values: Record<string, string | undefined> = {};
  for (const [name, value] of Object.entries(body)) {
    if (value === null) {
      values[name] = undefined;
      continue;
    }
    if (typeof value !== 'string' && typeof value !== 'number')
      throw new RequestError(400, `the value of ${name} must be text or a number`);
    values[name] = String(value);
  }
  return values;
}

async function change(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RequestError) throw error;
    throw new RequestError(400, (error as Error).message);
  }
}
