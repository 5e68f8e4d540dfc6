/** Docker's own client against the VM: what a developer does all day, through the context and through DOCKER_HOST. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busybox, importBusybox, page } from './images.ts';
import { withInstance } from './instance.ts';
import { Running, run } from './programs.ts';

const stage = 'slipway-test/built:1';

withInstance("docker's client", async (t, slipway) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-cli-'));
  const name = 'cli-cat';
  t.teardown(async () => {
    await slipway.remove(name);
    await slipway.tryDocker(['rmi', '-f', stage]);
    rmSync(folder, { recursive: true, force: true });
  });
  await importBusybox(slipway);

  await t.test('the context and DOCKER_HOST reach the same engine', async (t) => {
    const byContext = await slipway.docker('info', '-f', '{{.ID}} {{.Name}}');
    t.match(byContext, /\S+ \S+/);
    t.equal(await slipway.dockerByHost('info', '-f', '{{.ID}} {{.Name}}'), byContext);
    t.match(await slipway.docker('context', 'ls', '-q'), /^slipway$/m);
    t.equal(statSync(slipway.dockerSocket).mode & 0o777, 0o600, "the socket is the user's alone");
  });

  await t.test('run: output on its own stream, exit status, gone after it', async (t) => {
    const script = 'echo to stdout; echo to stderr >&2; exit 7';
    const ran = await slipway.tryDocker(['run', '--rm', '--name', 'cli-run', busybox, 'sh', '-c', script]);
    t.same(ran, { status: 7, stdout: 'to stdout\n', stderr: 'to stderr\n' });
    t.equal(await slipway.docker('ps', '-aq', '--filter', 'name=cli-run'), '');
  });

  await slipway.docker('run', '-di', '--name', name, busybox, 'cat');

  await t.test('logs -f and attach follow a living container', async (t) => {
    const logs = slipway.startDocker('logs', '-f', name);
    const attached = slipway.startDocker('attach', name);
    t.teardown(() => logs.child.kill() && attached.child.kill());
    for (const line of ['one', 'two']) {
      attached.write(`${line}\n`);
      await logs.says(new RegExp(`^${line}$`, 'm'));
      await attached.says(new RegExp(`^${line}$`, 'm'));
    }
  });

  await t.test('exec -i ends with its stdin: half-close', async (t) => {
    const { status, stdout } = await slipway.tryDocker(['exec', '-i', name, 'sh', '-c', 'cat; echo after'], 'hi\n');
    t.same({ status, stdout }, { status: 0, stdout: 'hi\nafter\n' });
  });

  await t.test("exec -it has a terminal of the size of the user's", async (t) => {
    const exec = slipway.dockerCommand('exec', '-it', name, 'sh');
    const terminal = new Running('script', ['-qec', `stty rows 33 cols 99; ${exec}`, '/dev/null'], slipway.env);
    t.teardown(() => terminal.child.kill());
    await terminal.says(/[#$] /);
    terminal.write('until [ "$(stty size)" = "33 99" ]; do sleep 0.1; done; echo resized at $(tty)\n');
    await terminal.says(/resized at \/dev\/pts\/\d/);
    terminal.write('exit 5\n');
    t.equal((await terminal.ended).status, 5, 'the exit status comes through');
  });

  await t.test('cp both ways', async (t) => {
    const octets = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7919) >> 3));
    writeFileSync(join(folder, 'up'), octets);
    await slipway.docker('cp', join(folder, 'up'), `${name}:/tmp/there`);
    await slipway.docker('cp', `${name}:/tmp/there`, join(folder, 'back'));
    t.ok(octets.equals(readFileSync(join(folder, 'back'))), 'what came back is what went');
  });

  const context = join(folder, 'context');
  mkdirSync(context);
  writeFileSync(join(context, 'greeting'), 'hello from the build\n');
  const steps = [`FROM ${busybox}`, 'COPY greeting /greeting', 'RUN cp /greeting /copied', 'CMD ["cat", "/copied"]'];
  writeFileSync(join(context, 'Dockerfile'), `${steps.join('\n')}\n`);

  await t.test('build of a small Dockerfile', async (t) => {
    await slipway.docker('build', '-t', stage, context);
    t.equal(await slipway.docker('run', '--rm', stage), 'hello from the build\n');
  });

  await t.test('build by BuildKit', async (t) => {
    const out = join(folder, 'out');
    await slipway.buildx('build', '--provenance=false', '--output', `type=local,dest=${out}`, context);
    t.equal(readFileSync(join(out, 'copied'), 'utf8'), 'hello from the build\n', 'what it built came back');
  });

  await t.test('save piped to load', async (t) => {
    const quoted = [slipway.dockerCommand('save', stage), slipway.dockerCommand('rmi', '-f', stage)];
    const archive = join(folder, 'saved.tar');
    const saved = await run('sh', ['-ec', `${quoted[0]} > ${archive}; ${quoted[1]}`], slipway.env);
    t.equal(saved.status, 0, saved.stderr);
    t.match(await slipway.docker('load', '-i', archive), `Loaded image: ${stage}`);
    t.equal((await slipway.docker('image', 'inspect', '-f', '{{index .Config.Cmd 1}}', stage)).trim(), '/copied');
  });

  await t.test('slipway proof fetches a page from a container', async (t) => {
    const proof = await slipway.trySlipway('proof');
    t.equal(proof.status, 0, proof.stderr);
    t.match(proof.stdout, /curl http:\/\/127\.0\.0\.1:\d+\/\nHello from a container/);
  });

  t.equal(await slipway.docker('exec', name, 'cat', '/www/index.html'), page, 'the container has lived through all');
});
