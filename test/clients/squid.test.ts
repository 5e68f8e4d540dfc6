/** A real squid as the upstream proxy, in a namespace with a web server behind it: curl of a guest does not know of it. */

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'busybox-static', proof: '/bin/busybox' },
  { name: 'curl', proof: 'curl' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'openssl', proof: 'openssl' },
  { name: 'squid', proof: 'squid' },
  { name: 'util-linux', proof: 'setpriv' },
]);

t.setTimeout(180_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-squid-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

mkdirSync(at('www'));
writeFileSync(at('www/page'), 'the page\n');
const subject = ['-subj', '/CN=web.example', '-addext', 'subjectAltName=DNS:web.example', '-days', '2'];
const files = ['-keyout', at('key.pem'), '-out', at('cert.pem')];
execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...subject, ...files], { stdio: 'ignore' });
const hash = execFileSync('openssl', ['passwd', '-apr1', 'secret-of-mine'], { encoding: 'utf8' });
writeFileSync(at('passwd'), `me:${hash}`);
writeFileSync(at('hosts'), '10.9.0.1 web.example blocked.example\n');
writeFileSync(
  at('squid.conf'),
  `
http_port 10.9.0.3:3128
hosts_file ${at('hosts')}
auth_param basic program /usr/lib/squid/basic_ncsa_auth ${at('passwd')}
auth_param basic realm corp
acl known proxy_auth REQUIRED
acl blocked dstdomain blocked.example
acl tls port 443
acl CONNECT method CONNECT
http_access deny blocked
http_access deny CONNECT !tls
http_access allow known
http_access deny all
cache deny all
logformat seen %rm %ru %un %>Hs %Ss
access_log stdio:${at('access.log')} seen
cache_log ${at('cache.log')}
pid_filename none
pinger_enable off
shutdown_lifetime 0 seconds
coredump_dir ${folder}
visible_hostname corp
`,
);
for (const [name, words] of [
  ['right', 'me:secret-of-mine'],
  ['wrong', 'me:not-my-secret'],
] as const) {
  writeFileSync(at(name), `${words}\n`);
  chmodSync(at(name), 0o600);
}

/** Squid will not be root: in a namespace of its own the user is somebody. */
const world = (commands: string): string => `
set -e
ip link set lo up
ip addr add 10.9.0.1/32 dev lo
ip addr add 10.9.0.3/32 dev lo
cd ${at('www')}
busybox httpd -f -p 10.9.0.1:80 -h . & pids="$!"
openssl s_server -accept 10.9.0.1:443 -key ../key.pem -cert ../cert.pem -WWW -quiet 2> /dev/null & pids="$pids $!"
unshare --user --map-user=13 --map-group=13 squid -N -f ${at('squid.conf')} & squid=$! pids="$pids $!"
trap 'kill $pids; wait' EXIT
for port in 10.9.0.1:80 10.9.0.1:443 10.9.0.3:3128; do
  until ss -ltn | grep -q $port; do kill -0 $squid; sleep 0.05; done
done
${commands}
`;

function run(options: string, script: string) {
  writeFileSync(at('access.log'), '');
  const command = `timeout 100 ${launcher} net run --http-proxy http://10.9.0.3:3128 --https-proxy http://10.9.0.3:3128 ${options} -- sh -c '${script}'`;
  const words = ['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', world(command)];
  const { status, stdout, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', ...words], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  const log = readFileSync(at('access.log'), 'utf8').trim().split('\n');
  return { status, stdout, stderr, log: log.filter((line) => line !== '').sort() };
}

const curl = `curl -sS --max-time 30 --cacert ${at('cert.pem')}`;
const named = '--resolve web.example:443:10.9.0.1 --resolve web.example:80:10.9.0.1';

t.test('HTTP as it is, HTTPS by the name in its SNI, both with the credential, which nobody is told', async (t) => {
  const script = [
    `${curl} ${named} http://web.example/page http://web.example/page -w "%{num_connects} " `,
    `${curl} ${named} https://web.example/page`,
    `${curl} -k https://10.9.0.1/page`,
    `${curl} -o /dev/null -w "%{http_code}\\n" -H "Host: blocked.example" http://10.9.0.1/page`,
    `${curl} -i http://10.9.0.1/page`,
  ].join('; ');
  const { status, stdout, stderr, log } = run(`--proxy-credential ${at('right')}`, script);
  t.equal(status, 0, stderr);
  t.match(
    stdout,
    /^the page\n1 the page\n0 the page\nthe page\n403\nHTTP\/1\.1 200 /,
    'one connection for two requests',
  );
  t.match(stdout, /^Via: .*corp/m, 'squid was there');
  t.same(log, [
    'CONNECT 10.9.0.1:443 me 200 TCP_TUNNEL',
    'CONNECT web.example:443 me 200 TCP_TUNNEL',
    'GET http://10.9.0.1/page me 200 TCP_MISS',
    'GET http://blocked.example/page - 403 TCP_DENIED',
    'GET http://web.example/page me 200 TCP_MISS',
    'GET http://web.example/page me 200 TCP_MISS',
  ]);
  t.notMatch(stdout + stderr, /secret-of-mine|Proxy-Authorization/i);
});

t.test(
  'a wrong credential is said to be one, not passed on and not shown; what is excluded goes straight',
  async (t) => {
    const script = `${curl} -i http://10.9.0.1/page; ${curl} ${named} http://web.example/page`;
    const { stdout, stderr, log } = run(`--proxy-credential ${at('wrong')} --no-proxy .example`, script);
    t.match(stdout, /^HTTP\/1\.1 502 [\s\S]*the upstream proxy wants other credentials .*\n[\s\S]*the page\n$/);
    t.same(log, ['GET http://10.9.0.1/page me 407 TCP_DENIED']);
    t.notMatch(stdout + stderr, /not-my-secret|407|Proxy-Auth/i);
  },
);
