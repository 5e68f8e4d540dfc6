import fc from 'fast-check';
import t from 'tap';
import { parseRequest } from '../../src/proxy/adapter/publishing-socket.ts';
import {
  type PortExposer,
  PublishedPorts,
  type PublishRequest,
  type PublishRules,
} from '../../src/proxy/published-ports.ts';

const rules: PublishRules = {
  bind: ['127.0.0.1', '::1'],
  reserved: [
    [5432, 5432],
    [8000, 8100],
  ],
  limit: 4,
  unprivilegedFrom: 1024,
  hostAddresses: ['192.168.65.1/32', '192.168.65.2/32', 'fd65::/127', 'fd65::2/128'],
  ipv6: true,
};

const ask = (hostPort: number, more: Partial<PublishRequest> = {}): PublishRequest => ({
  protocol: 'tcp',
  hostAddress: '0.0.0.0',
  hostPort,
  containerAddress: '172.17.0.2',
  containerPort: 80,
  ...more,
});

class FakeExposer implements PortExposer {
  readonly listening = new Set<string>();
  readonly failures = new Map<string, string>();

  async expose({ protocol, hostAddress, hostPort, guestAddress, guestPort }: Parameters<PortExposer['expose']>[0]) {
    const port = hostPort === 0 ? 49152 : hostPort;
    const key = `${protocol} ${hostAddress} ${port}`;
    const code = this.failures.get(hostAddress) ?? (this.listening.has(key) ? 'EADDRINUSE' : undefined);
    if (code) throw Object.assign(new Error(code), { code });
    this.listening.add(key);
    this.guest = `${guestAddress}:${guestPort}`;
    return { port, close: () => void this.listening.delete(key) };
  }

  guest = '';
}

function setUp(changed: Partial<PublishRules> = {}) {
  const exposer = new FakeExposer();
  const pauses: (() => void)[] = [];
  const pause = (): Promise<void> => new Promise((resolve) => pauses.push(resolve));
  return { exposer, pauses, ports: new PublishedPorts(exposer, { ...rules, ...changed }, pause) };
}

const refusedWith = (outcome: object): string => ('refused' in outcome ? String(outcome.refused) : 'granted');
const release = (outcome: object): void => (outcome as { release(): void }).release();

t.test('wildcards stand for the loopback addresses of their family', async (t) => {
  const { exposer, ports } = setUp();
  const four = await ports.request(ask(8200));
  const six = await ports.request(ask(8200, { hostAddress: '::' }));
  t.same([...exposer.listening], ['tcp 127.0.0.1 8200', 'tcp ::1 8200']);
  t.equal(exposer.guest, '172.17.0.2:80');
  t.match(four, { port: 8200 });
  t.same(
    ports.list().map(({ bound }) => bound),
    [['127.0.0.1'], ['::1']],
  );
  release(four);
  release(four);
  release(six);
  t.equal(exposer.listening.size, 0);
  t.same(ports.list(), []);
});

t.test('an explicit address is honoured, and its absence told in the words of Docker', async (t) => {
  const { exposer, ports } = setUp();
  await ports.request(ask(8200, { hostAddress: '192.168.1.9' }));
  t.same([...exposer.listening], ['tcp 192.168.1.9 8200']);
  exposer.failures.set('192.168.1.10', 'EADDRNOTAVAIL');
  t.equal(
    refusedWith(await ports.request(ask(8200, { hostAddress: '192.168.1.10' }))),
    'listen tcp4 192.168.1.10:8200: bind: cannot assign requested address',
  );
});

t.test('a host without IPv6 does not fail the wildcard', async (t) => {
  const { exposer, ports } = setUp();
  for (const code of ['EADDRNOTAVAIL', 'EAFNOSUPPORT']) {
    exposer.failures.set('::1', code);
    t.match(await ports.request(ask(8200, { hostAddress: '::' })), { port: 8200 }, code);
    t.equal(
      refusedWith(await ports.request(ask(8201, { hostAddress: '::1' }))).startsWith('listen tcp6 [::1]:8201: bind: '),
      true,
    );
  }
  t.same(
    ports.list().map(({ bound }) => bound),
    [[], []],
  );
});

t.test('a container with an IPv6 address is served at it', async (t) => {
  const { exposer, ports } = setUp();
  await ports.request(ask(8200, { hostAddress: '::', containerAddress: 'fd00::2' }));
  t.same([...exposer.listening], ['tcp ::1 8200']);
  t.equal(exposer.guest, 'fd00::2:80');
  for (const own of ['fd65::', 'fd65::1', 'fd65::2'])
    t.match(refusedWith(await ports.request(ask(8201, { containerAddress: own }))), /not the address of a container/);
});

t.test('where the network has no IPv6, a container of both is served at its IPv4 address', async (t) => {
  const { exposer, ports } = setUp({ ipv6: false });
  t.match(await ports.request(ask(8200, { hostAddress: '::', containerAddress: 'fd00::2' })), { port: 8200 });
  t.equal(exposer.listening.size, 0);
  const refused = await ports.request(ask(8200, { hostAddress: '::1', containerAddress: 'fd00::2' }));
  t.match(refusedWith(refused), /listen tcp6 \[::1\]:8200: the guest's network has no IPv6/);
});

t.test('a busy port', async (t) => {
  const { exposer, ports } = setUp();
  exposer.failures.set('127.0.0.1', 'EADDRINUSE');
  t.equal(refusedWith(await ports.request(ask(8200))), 'listen tcp4 0.0.0.0:8200: bind: address already in use');
  t.equal(
    refusedWith(await ports.request(ask(8200, { protocol: 'udp' }))),
    'listen udp4 0.0.0.0:8200: bind: address already in use',
  );
  t.same(ports.list(), []);
});

t.test('when one of several addresses is busy, none is kept', async (t) => {
  const { exposer, ports } = setUp({ bind: ['127.0.0.1', '127.0.0.2'] });
  exposer.failures.set('127.0.0.2', 'EADDRINUSE');
  t.match(refusedWith(await ports.request(ask(8200))), /address already in use/);
  t.equal(exposer.listening.size, 0);
});

t.test('a port that a closing one of ours still holds is waited for', async (t) => {
  const { ports, pauses } = setUp();
  const old = await ports.request(ask(8200));
  const next = ports.request(ask(8200));
  while (pauses.length === 0) await new Promise(setImmediate);
  release(old);
  pauses.shift()!();
  t.match(await next, { port: 8200 });
  const third = ports.request(ask(8200));
  for (let tries = 0; tries < 20; tries++) {
    while (pauses.length === 0) await new Promise(setImmediate);
    pauses.shift()!();
  }
  t.match(refusedWith(await third), /address already in use/, 'but not for ever');
});

t.test('what the guest may not have is refused before anything is bound', async (t) => {
  const { exposer, ports } = setUp();
  const refused = async (request: PublishRequest) => refusedWith(await ports.request(request));
  t.match(await refused(ask(5432)), /the port is reserved on the host \(ports\.reserved\)/);
  t.match(await refused(ask(8050, { protocol: 'udp' })), /reserved/);
  t.match(await refused(ask(80)), /listen tcp4 0\.0\.0\.0:80: bind: permission denied: ports below 1024/);
  for (const containerAddress of [
    ...['127.0.0.1', '0.0.0.0', '169.254.169.254', '224.0.0.1', '255.255.255.255', '192.168.65.1', '192.168.65.2'],
    ...['::1', '::', '::ffff:127.0.0.1', '::127.0.0.1', 'fe80::1', 'ff02::1', '1.2.3', 'x'],
  ])
    t.match(await refused(ask(8200, { containerAddress })), /is not the address of a container/, containerAddress);
  t.match(await refused(ask(8200, { hostAddress: '1.2.3' })), /not an address/);
  t.equal(exposer.listening.size, 0);
});

t.test('privileged ports once the setting allows them', async (t) => {
  const { ports } = setUp({ unprivilegedFrom: 0 });
  t.match(await ports.request(ask(80)), { port: 80 });
});

t.test('the limit counts listeners, also those still being made', async (t) => {
  const { ports } = setUp();
  const outcomes = await Promise.all([1, 2, 3, 4, 5].map((i) => ports.request(ask(9000 + i))));
  t.equal(outcomes.filter((outcome) => 'port' in outcome).length, 4);
  t.match(refusedWith(outcomes[4]!), /the limit of 4 listeners is reached \(ports\.limit\)/);
  release(outcomes[0]!);
  t.match(await ports.request(ask(9005)), { port: 9005 });
});

t.test('listeners of wildcards follow ports.bind', async (t) => {
  const { exposer, ports } = setUp();
  await ports.request(ask(8200));
  await ports.request(ask(8300, { hostAddress: '10.0.0.1' }));
  await ports.reconcile({ ...rules, bind: ['0.0.0.0', '::'] });
  t.same([...exposer.listening].sort(), ['tcp 0.0.0.0 8200', 'tcp 10.0.0.1 8300']);
  exposer.failures.set('127.0.0.3', 'EACCES');
  await ports.reconcile({ ...rules, bind: ['127.0.0.3'] });
  t.match(ports.list()[0], { bound: [], problem: 'listen tcp4 127.0.0.3:8200: bind: permission denied' });
  await ports.reconcile(rules);
  t.match(ports.list()[0], { bound: ['127.0.0.1'] });
  t.notOk(ports.list()[0]!.problem);
  ports.close();
  t.equal(exposer.listening.size, 0);
});

t.test('port 0 is what the host chose', async (t) => {
  const { ports } = setUp({ bind: ['127.0.0.1', '127.0.0.2'] });
  t.match(await ports.request(ask(0)), { port: 49152 });
  t.match(ports.list(), [{ hostPort: 49152, bound: ['127.0.0.1', '127.0.0.2'] }]);
});

t.test('a request line is the protocol or nothing', async (t) => {
  t.same(parseRequest('EXPOSE tcp 0.0.0.0 8080 172.17.0.2 80'), ask(8080));
  t.match(parseRequest('EXPOSE udp :: 53 fd00::2 53'), { protocol: 'udp', hostAddress: '::' });
  for (const line of [
    'EXPOSE sctp 0.0.0.0 80 1.2.3.4 80',
    'EXPOSE tcp 0.0.0.0 65536 1.2.3.4 80',
    'EXPOSE tcp 0.0.0.0 80 1.2.3.4 0',
    'EXPOSE tcp 0.0.0.0 80 1.2.3.4 80 ',
    'EXPOSE  tcp 0.0.0.0 80 1.2.3.4 80',
    'expose tcp 0.0.0.0 80 1.2.3.4 80',
    '',
  ])
    t.equal(parseRequest(line), undefined, JSON.stringify(line));
  const word = fc.oneof(fc.constantFrom('EXPOSE', 'tcp', '0.0.0.0', '80', '172.17.0.2'), fc.string());
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (words) => {
      const request = parseRequest(words.join(' '));
      return request === undefined || (request.hostPort <= 65535 && request.containerPort <= 65535);
    }),
  );
});
