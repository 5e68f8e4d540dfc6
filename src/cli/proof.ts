/**
 * `slipway proof`: shows that the main job works, over Docker's API alone: an image is imported (a tar made here around
 * the guest's own static busybox), a container serves a page from it on a published port, and the page is fetched from
 * the host's localhost.
 */

import { request } from 'undici';
import { command, printJson, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { DockerApi, DockerError } from './docker-api.ts';
import { outputOfGuest } from './guest-channel.ts';
import { Progress } from './progress.ts';
import { tar } from './tar.ts';

const IMAGE = 'slipway-proof:1';
const CONTAINER = 'slipway-proof';
const PAGE = 'Hello from a container behind Slipway.\n';

interface Inspected {
  readonly NetworkSettings: { readonly Ports: Record<string, readonly { HostIp: string; HostPort: string }[] | null> };
}

export async function run(argv: readonly string[]): Promise<number> {
  const program = command(
    'proof',
    'run a container with a published port and fetch its page from localhost',
    'slipway proof',
  )
    .option('--json', 'print the outcome as JSON')
    .action(async (options: { json?: boolean }) => {
      const outcome = await prove();
      if (options.json) printJson(outcome);
      else
        process.stdout.write(
          `\n$ curl ${outcome.url}\n${outcome.page}\nDocker ${outcome.docker} works: a container's page came through ${outcome.url}\n`,
        );
    });
  return runCommand(program, argv);
}

interface Proof {
  readonly docker: string;
  readonly url: string;
  readonly page: string;
  readonly seconds: Readonly<Record<string, number>>;
}

async function prove(): Promise<Proof> {
  const home = currentHome();
  const docker = new DockerApi(home.dockerSocket);
  const progress = new Progress();
  const seconds: Record<string, number> = {};
  const step = async <T>(name: string, label: string, work: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await progress.step(label, work);
    seconds[name] = Math.round(performance.now() - started) / 1000;
    return result;
  };
  try {
    const version = (await step('version', 'Asking Docker for its version', () => docker.call('GET', '/version'))) as {
      Version: string;
    };
    if (!(await imageThere(docker)))
      await step('import', 'Importing a small image', async () => {
        await importImage(docker, await outputOfGuest(home, 'cat /bin/busybox'));
      });
    await step('run', 'Starting a container with a published port', () => start(docker));
    const url = `http://127.0.0.1:${await publishedPort(docker)}/`;
    const page = await step('fetch', `Fetching ${url}`, () => fetchPage(url));
    if (page !== PAGE) throw new Error(`${url} answered something else: ${JSON.stringify(page.slice(0, 200))}`);
    await step('remove', 'Removing the container', () => remove(docker));
    return { docker: version.Version, url, page, seconds };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      throw new Error(`nothing answers on ${home.dockerSocket}; 'slipway up' starts it`);
    throw error;
  } finally {
    await docker.close();
  }
}

async function imageThere(docker: DockerApi): Promise<boolean> {
  try {
    await docker.call('GET', `/images/${IMAGE}/json`);
    return true;
  } catch (error) {
    if (error instanceof DockerError && error.status === 404) return false;
    throw error;
  }
}

async function importImage(docker: DockerApi, busybox: Uint8Array): Promise<void> {
  const image = tar([
    { path: 'bin/', mode: 0o755 },
    { path: 'bin/busybox', mode: 0o755, content: busybox },
    { path: 'bin/sh', mode: 0o777, linkTo: 'busybox' },
    { path: 'www/', mode: 0o755 },
    { path: 'www/index.html', mode: 0o644, content: Buffer.from(PAGE) },
  ]);
  const [repository, tag] = IMAGE.split(':');
  await docker.call('POST', `/images/create?fromSrc=-&repo=${repository}&tag=${tag}`, image);
}

async function start(docker: DockerApi): Promise<void> {
  await remove(docker);
  await docker.call('POST', `/containers/create?name=${CONTAINER}`, {
    Image: IMAGE,
    Cmd: ['/bin/busybox', 'httpd', '-f', '-p', '80', '-h', '/www'],
    ExposedPorts: { '80/tcp': {} },
    HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '0' }] }, Init: false },
  });
  await docker.call('POST', `/containers/${CONTAINER}/start`);
}

async function publishedPort(docker: DockerApi): Promise<string> {
  const { NetworkSettings } = (await docker.call('GET', `/containers/${CONTAINER}/json`)) as Inspected;
  const binding = NetworkSettings.Ports['80/tcp']?.find(({ HostIp }) => HostIp === '0.0.0.0');
  if (!binding) throw new Error('Docker says that the container has no published port');
  return binding.HostPort;
}

/** The server in the container needs a moment to listen: until then a connection is closed without an answer. */
async function fetchPage(url: string): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      return await (await request(url, { headersTimeout: 20_000, bodyTimeout: 20_000 })).body.text();
    } catch (error) {
      if (tries === 40) throw new Error(`${url} does not answer: ${(error as Error).message}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function remove(docker: DockerApi): Promise<void> {
  try {
    await docker.call('DELETE', `/containers/${CONTAINER}?force=1&v=1`);
  } catch (error) {
    if (!(error instanceof DockerError && error.status === 404)) throw error;
  }
}
