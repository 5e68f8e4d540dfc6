/** Every operation of the platform's HTTP API. */

import type { SettingChanges } from '../config/port.ts';
import { type SettingName, schema, settingNames } from '../config/schema.ts';
import { describeSetting, describeSettings } from '../config/setting-description.ts';
import { streamEvents } from './event-stream.ts';
import { metrics } from './metrics.ts';
import { networkRoutes } from './network-routes.ts';
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
    answer: ({ platform }) => ({ events: (response) => streamEvents(platform, response) }),
  },
  ...networkRoutes,
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
    answer: () => ({ json: openApiDocument(routes, '$SLIPWAY_HOME/api.sock') }),
  },
];

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
