/**
 * A capture of the network as the body of an answer: a pcapng file that grows for as long as it is read. A reader that
 * is too slow loses frames, counted in the file; the network does not wait for it.
 */

import type { ServerResponse } from 'node:http';
import type { CaptureFilter } from '../stack/link/capture-filter.ts';
import type { NetworkPort } from './port.ts';

/** Whoever reads along sees frames after no more than this. */
const FLUSH_MS = 250;

export interface CaptureRequest {
  readonly filter: CaptureFilter | undefined;
  readonly snapOctets: number | undefined;
}

export function streamCapture(network: NetworkPort, request: CaptureRequest, response: ServerResponse): void {
  const capture = network.capture({
    ...request,
    sink: {
      write: (octets, done) => void response.write(octets, () => done()),
      rotate: () => undefined,
    },
    stopped: () => response.end(),
  });
  response.writeHead(200, { 'content-type': 'application/x-pcapng', 'cache-control': 'no-store' });
  capture.flush();
  const timer = setInterval(() => capture.flush(), FLUSH_MS);
  response.once('close', () => {
    clearInterval(timer);
    capture.stop();
  });
}
