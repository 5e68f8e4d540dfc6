/**
 * Two stacks joined by a pipe that loses 5 % of the frames exchange a file, and a capture of it is written:
 *
 *     node examples/two-stacks.ts [FILE [CAPTURE.pcapng]]
 *
 * The streams could as well lead into a worker, another tab, or an emulator. Outside of this repository, import from
 * 'slipway/stack'. The stack needs nothing of Node's; only this program reads and writes files.
 */

import { createHash } from 'node:crypto';
import { createReadStream, openSync, writeSync } from 'node:fs';
import { Readable } from 'node:stream';
import { parseConditions, SocketStack, WebStreamsLink } from '../src/stack/index.ts';

const [file = import.meta.filename, capturePath = 'two-stacks.pcapng'] = process.argv.slice(2);

// A pipe is two streams of frames, one for each way.
const there = new TransformStream<Uint8Array, Uint8Array>();
const back = new TransformStream<Uint8Array, Uint8Array>();
const left = new SocketStack({
  address: '10.0.0.1/24',
  link: new WebStreamsLink({ readable: back.readable, writable: there.writable }, { name: 'left' }),
});
const right = new SocketStack({
  address: '10.0.0.2/24',
  link: new WebStreamsLink({ readable: there.readable, writable: back.writable }, { name: 'right' }),
});
left.useConditions(parseConditions('delay=5ms,loss=5%,seed=42'));

const descriptor = openSync(capturePath, 'w', 0o600);
const capture = right.capture({
  application: 'two stacks',
  sink: {
    write(octets, done) {
      writeSync(descriptor, octets);
      done();
    },
    rotate() {},
  },
});

// The left stack serves: it sends back whatever it gets.
const listener = left.listen({ port: 7 });
const serving = (async () => {
  for await (const connection of listener) connection.readable.pipeTo(connection.writable).catch(console.error);
})();

const connection = await right.connect({ host: '10.0.0.1', port: 7 });
const sent = createHash('sha256');
const sending = Readable.toWeb(createReadStream(file))
  .pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        sent.update(chunk);
        controller.enqueue(chunk);
      },
    }),
  )
  .pipeTo(connection.writable);

let octets = 0;
const received = createHash('sha256');
for await (const chunk of connection) {
  received.update(chunk);
  octets += chunk.length;
}
await Promise.all([sending, connection.closed]);

capture.stop();
listener.close();
await serving;
const [counts] = left.pipeline.conditionCounts();
const whole = sent.digest('hex') === received.digest('hex');
console.log(`${octets} octets there and back, ${whole ? 'whole' : 'DAMAGED'}; ${counts?.lost} frames lost on the way`);
console.log(`${capture.frames} frames in ${capturePath}`);
left.close();
right.close();
