/** What users of other network cores reported when file descriptors ran out, with a real guest and a core that has few. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Guest } from '../clients/guest.ts';

t.setTimeout(120_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const LIMIT = 120;

t.test('case 20: out of file descriptors, new connections are refused, and those that are there stay', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-descriptors-'));
  const path = join(folder, 'net.sock');
  const words = ['-u', 'NODE_OPTIONS', 'sh', '-c', `ulimit -n ${LIMIT}; exec "$@"`, 'sh', launcher];
  const core = spawn('env', [...words, 'net', 'serve', '--qemu', path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(async () => {
    core.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });
  await once(core.stdout, 'data');
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const guest = await Guest.start(path);
  t.teardown(() => guest.stop());
  const { port } = server.address() as AddressInfo;
  const { refused, kept, again } = await guest.run(
    async ({ net, once }, port, limit) => {
      const dial = async () => {
        const socket = net.connect({ host: '192.168.65.2', port });
        socket.on('error', () => undefined);
        const [event] = await Promise.race([
          once(socket, 'connect').then(
            () => ['connected'],
            () => ['refused'],
          ),
          once(socket, 'close').then(() => ['refused']),
        ]);
        return { socket, event };
      };
      const old = await Promise.all(Array.from({ length: 20 }, dial));
      const more = await Promise.all(Array.from({ length: limit * 2 }, dial));
      let kept = 0;
      for (const { socket } of old) {
        socket.write('x');
        const [chunk] = await once(socket, 'data');
        if (String(chunk) === 'x') kept++;
      }
      for (const { socket } of more) socket.destroy();
      // Their host sockets are closed when the core has heard of it, which a connection may come before.
      let again = 'refused';
      while (again !== 'connected') again = (await dial()).event!;
      return { refused: more.filter(({ event }) => event === 'refused').length, kept, again };
    },
    port,
    LIMIT,
  );
  t.ok(refused > LIMIT, `${refused} are refused`);
  t.equal(kept, 20, 'the first go on');
  t.equal(again, 'connected', 'when others have gone there is room again');
  core.kill();
  t.same(await once(core, 'exit'), [0, null]);
});
