/** What the guest is given of the settings. */

import t from 'tap';
import { guestFiles } from '../../src/config/guest-settings.ts';
import { defaults, parseSetting } from '../../src/config/schema.ts';

t.test('by default: a name, and nothing else', async (t) => {
  t.same(guestFiles(defaults), {
    'etc/hostname': 'slipway\n',
    'etc/sysctl.conf': '',
    'etc/docker/daemon.json': '{\n}\n',
  });
});

t.test("dockerd's settings: one line a key, with the network's proxy and what goes straight", async (t) => {
  const files = guestFiles({
    ...defaults,
    'docker.daemonJson': '{"labels": ["a=b\\nc"],\n "log-opts": {"max-size": "1m"}}',
    'network.httpsProxy': 'http://me.corp:3128',
    'network.noProxy': '*.corp 10.0.0.0/8, registry:5000',
  });
  t.equal(
    files['etc/docker/daemon.json'],
    `{
  "proxies": {"https-proxy":"http://http.docker.internal:3128","no-proxy":"localhost,127.0.0.0/8,::1,.docker.internal,192.168.65.0/24,*.corp,10.0.0.0/8,registry:5000"},
  "labels": ["a=b\\nc"],
  "log-opts": {"max-size":"1m"}
}
`,
  );
  const mine = { 'docker.daemonJson': '{"proxies": {}}', 'network.httpProxy': 'http://me.corp:3128' };
  t.equal(
    guestFiles({ ...defaults, ...mine })['etc/docker/daemon.json'],
    '{\n  "proxies": {}\n}\n',
    "the user's own win",
  );
});

t.test('kernel settings, a line each', async (t) => {
  const text = ' net.core.somaxconn = 4096;\n# a comment\nnet.ipv4.ip_local_port_range=1024 65535;;vm.swappiness=0\n';
  t.equal(
    guestFiles({ ...defaults, 'vm.sysctl': parseSetting('vm.sysctl', text) })['etc/sysctl.conf'],
    'net.core.somaxconn=4096\nnet.ipv4.ip_local_port_range=1024 65535\nvm.swappiness=0\n',
  );
});

t.test('what cannot be taken is told', async (t) => {
  for (const [text, words] of [
    ['{', /is not JSON/],
    ['[]', /is not a JSON object/],
    ['null', /is not a JSON object/],
    ['{"hosts": ["tcp://0.0.0.0"]}', /has 'hosts', which is Slipway's own to set/],
    ['{"data-root": "/x"}', /has 'data-root'/],
    ['{"a\\"b": 1}', /is no key of dockerd's/],
  ] as const)
    t.throws(() => parseSetting('docker.daemonJson', text), { message: words }, text);
  for (const text of [
    'swappiness=1',
    'vm.swappiness',
    'vm.swappiness=',
    '../x.y=1',
    'vm.x/y=1',
    'vm.swappiness=1\u{7}',
  ])
    t.throws(() => parseSetting('vm.sysctl', text), { message: /is not a kernel setting/ }, text);
});
