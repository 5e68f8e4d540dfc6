/**
 * Server-sent events: what changes on the platform, each with its whole new value, so that a reader who misses one
 * misses nothing. A reader that does not read is cut off once `BACKLOG_OCTETS` wait for it.
 */

import type { ServerResponse } from 'node:http';
import { auditTime, distinctUntilChanged, map, merge } from 'rxjs';
import type { PlatformPort } from './port.ts';

const BACKLOG_OCTETS = 1 << 20;
const KEEP_ALIVE_MS = 15_000;
/** Bursts of changes (a boot, many ports at once) become one event. */
const BURST_MS = 20;

export function streamEvents(platform: PlatformPort, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const send = (text: string): void => {
    if (response.writableLength > BACKLOG_OCTETS) response.destroy();
    else response.write(text);
  };
  const event = (name: string, data: unknown): void => send(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  event('status', platform.status());
  const status = platform.changes.pipe(
    auditTime(BURST_MS),
    map((value) => JSON.stringify(value)),
    distinctUntilChanged(),
    map((value) => ['status', JSON.parse(value)] as const),
  );
  const settings = platform.settings.changes.pipe(map((value) => ['settings', value] as const));
  const subscription = merge(status, settings).subscribe({
    next: ([name, data]) => event(name, data),
    complete: () => response.end(),
  });
  const keepAlive = setInterval(() => send(': alive\n\n'), KEEP_ALIVE_MS);
  response.once('close', () => {
    clearInterval(keepAlive);
    subscription.unsubscribe();
  });
}
