/** Short talks with the guest over the stream channel: its control port, and the engine's /_ping (vm/README.md). */

import type { Duplex } from 'node:stream';
import type { GuestChannelPort } from '../port.ts';

const CONTROL_PORT = 2224;
const DOCKER_PORT = 2376;
/** No answer asked for here is longer. */
const ANSWER_OCTETS = 4096;

/** One line to the guest's control port; rejects unless it answers `ok` in time. */
export async function askAgent(lane: GuestChannelPort, line: string, timeoutMs: number): Promise<void> {
  const answer = await talk(lane, CONTROL_PORT, `${line}\n`, timeoutMs, (text) => text.includes('\n'));
  const first = answer.split('\n', 1)[0]!.trim();
  if (first !== 'ok') throw new Error(`the guest answered '${first}' to ${line.split(' ', 1)[0]}`);
}

/** Whether Docker answers. */
export async function pingDocker(lane: GuestChannelPort, timeoutMs: number): Promise<boolean> {
  const request = 'GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n';
  try {
    const answer = await talk(lane, DOCKER_PORT, request, timeoutMs, (text) => text.includes('\r\n'));
    return /^HTTP\/1\.[01] 200 /.test(answer);
  } catch {
    return false;
  }
}

/** Opens a stream, writes, reads until `enough`; the stream is gone afterwards in any case. */
async function talk(
  lane: GuestChannelPort,
  port: number,
  request: string,
  timeoutMs: number,
  enough: (text: string) => boolean,
): Promise<string> {
  let stream: Duplex | undefined;
  let late = false;
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late = true;
    timeout.reject(new Error(`no answer within ${timeoutMs} ms`));
  }, timeoutMs);
  const exchange = async (): Promise<string> => {
    const opened = await lane.connect(port);
    stream = opened;
    if (late) opened.destroy();
    opened.write(request);
    let text = '';
    for await (const chunk of opened) {
      text += String(chunk);
      if (enough(text) || text.length > ANSWER_OCTETS) return text;
    }
    throw new Error('the guest closed the stream without an answer');
  };
  const exchanged = exchange();
  exchanged.catch(() => undefined);
  try {
    return await Promise.race([exchanged, timeout.promise]);
  } finally {
    clearTimeout(timer);
    stream?.on('error', () => undefined);
    stream?.destroy();
  }
}
