/** The OpenAPI document, made from the routes. */

import type { Route } from './route.ts';

type Schema = Readonly<Record<string, unknown>>;

const text: Schema = { type: 'string' };
const number: Schema = { type: 'number' };
const yes: Schema = { type: 'boolean' };
const list = (items: Schema): Schema => ({ type: 'array', items });
const map = (additionalProperties: Schema): Schema => ({ type: 'object', additionalProperties });
const object = (properties: Readonly<Record<string, Schema>>, ...optional: string[]): Schema => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
});
const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

const states = ['starting', 'running', 'paused', 'stopping', 'stopped', 'failed'];
const value: Schema = { oneOf: [text, number] };

const schemas: Readonly<Record<string, Schema>> = {
  Error: object({ error: text }),
  Done: object({ ok: yes }),
  Status: object(
    {
      state: { type: 'string', enum: states },
      reason: text,
      docker: object({ ready: yes, version: text }, 'version'),
      accelerator: text,
      acceleratorReason: text,
      channel: text,
      versions: map(text),
      boot: { ...map(number), description: "Seconds from the hypervisor's start to each step" },
      startedAtMs: number,
      home: text,
      sockets: map(text),
      pids: map(number),
      network: object(
        { subnet: text, mtu: number, connected: yes, link: text, linkReason: text },
        ...['link', 'linkReason'],
      ),
      ports: list(ref('Port')),
      restarts: number,
      settingsProblem: text,
      pendingRestart: list(text),
    },
    ...['reason', 'accelerator', 'acceleratorReason', 'channel', 'startedAtMs', 'settingsProblem'],
  ),
  Port: object(
    {
      protocol: { type: 'string', enum: ['tcp', 'udp'] },
      hostAddress: text,
      hostPort: number,
      containerAddress: text,
      containerPort: number,
      bound: list(text),
      problem: text,
    },
    'problem',
  ),
  Ports: object({ ports: list(ref('Port')) }),
  Flow: object(
    {
      protocol: text,
      guest: text,
      peer: text,
      state: text,
      octetsToGuest: number,
      octetsToHost: number,
      direction: { type: 'string', enum: ['out', 'in'] },
      client: { ...text, description: 'The client of a published port' },
      rule: { ...text, description: 'The rule of the policy that let it through' },
      rttMs: number,
      retransmissions: number,
      idleMs: number,
      waitsFor: text,
    },
    ...['direction', 'client', 'rule', 'rttMs', 'retransmissions', 'idleMs', 'waitsFor'],
  ),
  Flows: object({ flows: list(ref('Flow')), drops: map(number) }),
  Dns: object({
    servers: list(
      object(
        {
          zone: text,
          servers: list(object({ server: text, state: { type: 'string', enum: ['used', 'silent', 'denied'] } })),
        },
        'zone',
      ),
    ),
    search: list(text),
    counts: map(number),
    cache: object({ entries: number, hits: number, misses: number }),
    queries: list(
      object(
        {
          number,
          atMs: number,
          guest: text,
          ingress: number,
          protocol: { type: 'string', enum: ['udp', 'tcp'] },
          name: text,
          type: text,
          source: { type: 'string', enum: ['built-in', 'record', 'hosts', 'cache', 'server', 'none'] },
          server: text,
          zone: text,
          code: text,
          answers: number,
          tookMs: number,
        },
        ...['server', 'zone'],
      ),
    ),
  }),
  Policy: object({
    hostLoopback: { type: 'string', enum: ['ask', 'list', 'all', 'closed'] },
    hostPorts: text,
    ownPorts: list(number),
    rules: list(object({ rule: text, decided: number })),
    denied: map(number),
    denials: list(
      object(
        {
          direction: { type: 'string', enum: ['out', 'in'] },
          protocol: text,
          address: text,
          port: number,
          reason: text,
          rule: text,
          flows: number,
          secondsAgo: number,
        },
        'rule',
      ),
    ),
  }),
  PolicyRules: object({ rules: { ...text, description: 'As in the setting policy.rules' } }),
  Conditions: object({ conditions: { ...text, description: 'As in the setting network.conditions; empty: none' } }),
  PolicyAnswers: object({
    answers: list(
      object(
        {
          direction: { type: 'string', enum: ['out', 'in'] },
          protocol: text,
          address: text,
          port: number,
          name: text,
          allowed: yes,
          dialled: text,
          reason: text,
          rule: text,
          number,
          answer: text,
        },
        ...['name', 'dialled', 'reason', 'rule', 'number', 'answer'],
      ),
    ),
  }),
  Setting: object(
    {
      value,
      default: value,
      chosen: yes,
      type: { type: 'string', enum: ['choice', 'number', 'text'] },
      path: text,
      unit: text,
      summary: text,
      details: text,
      restarts: { type: 'string', enum: ['nothing', 'vm'] },
      choices: list(text),
      range: list(number),
    },
    ...['unit', 'details', 'choices', 'range'],
  ),
  Settings: map(ref('Setting')),
  SettingValue: object({ value }),
  SettingValues: map({ oneOf: [text, number, { type: 'null' }], description: 'null: back to its default' }),
  Document: { type: 'object' },
};

const otherContent: Readonly<Record<string, string>> = {
  EventStream: 'text/event-stream',
  Metrics: 'text/plain',
  Capture: 'application/x-pcapng',
};

function operation(route: Route<never>): Schema {
  const type = otherContent[route.answers];
  const content = type ? { [type]: { schema: text } } : { 'application/json': { schema: ref(route.answers) } };
  const parameters = [
    ...(route.path.includes('{name}') ? [{ name: 'name', in: 'path', required: true, schema: text }] : []),
    ...Object.entries(route.query ?? {}).map(([name, description]) => ({
      name,
      in: 'query',
      description,
      schema: text,
    })),
  ];
  const error = { description: 'What was wrong', content: { 'application/json': { schema: ref('Error') } } };
  return {
    summary: route.summary,
    ...(parameters.length > 0 && { parameters }),
    ...(route.takes && {
      requestBody: { required: true, content: { 'application/json': { schema: ref(route.takes) } } },
    }),
    responses: { 200: { description: 'Done', content }, '4XX': error, '5XX': error },
  };
}

export function openApiDocument(routes: readonly Route<never>[], where: string): unknown {
  const paths: Record<string, Record<string, Schema>> = {};
  for (const route of routes) {
    paths[route.path] ??= {};
    paths[route.path]![route.method.toLowerCase()] = operation(route);
  }
  const info = { title: 'Slipway', version: '1', description: `On the unix socket ${where}` };
  return { openapi: '3.1.0', info, paths, components: { schemas } };
}
