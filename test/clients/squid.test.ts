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
writeFileSync(at('hosts'), '10.9.0.1 web.example blocked.example\n10.9.0.4 chat.example\n');
/** A server of WebSocket, RFC 6455, that greets whoever comes with one frame of text, the path that was asked for. */
writeFileSync(
  at('chat.js'),
  `
const { createHash } = require('node:crypto');
const { readFileSync } = require('node:fs');
const greet = (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = createHash('sha1').update(key).digest('base64');
  const fields = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Accept: ' + accept];
  const text = Buffer.from('hello ' + request.url);
  socket.on('error', () => undefined).write(['HTTP/1.1 101 Switching Protocols', ...fields, '', ''].join('\\r\\n'));
  socket.write(Buffer.concat([Buffer.of(0x81, text.length), text]));
  socket.once('data', () => socket.end(Buffer.of(0x88, 0)));
};
const tls = { key: readFileSync('${at('key.pem')}'), cert: readFileSync('${at('cert.pem')}') };
const plain = (request, response) => response.writeHead(426).end();
require('node:http').createServer(plain).on('upgrade', greet).listen(80, '10.9.0.4');
require('node:https').createServer(tls).on('upgrade', greet).listen(443, '10.9.0.4');
`,
);
/** A client: Node's own WebSocket. */
writeFileSync(
  at('client.js'),
  `
const socket = new WebSocket(process.argv[2]);
socket.onmessage = ({ data }) => { console.log(data); socket.close(); };
socket.onerror = () => console.log('failed');
`,
);
/** `more` goes ahead of the rest: what squid says first of a request counts. */
const configuration = (more = ''): string => `
${more}
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
`;
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
ip addr add 10.9.0.4/32 dev lo
cd ${at('www')}
busybox httpd -f -p 10.9.0.1:80 -h . & pids="$!"
${process.execPath} ${at('chat.js')} & pids="$pids $!"
openssl s_server -accept 10.9.0.1:443 -key ../key.pem -cert ../cert.pem -WWW -quiet 2> /dev/null & pids="$pids $!"
unshare --user --map-user=13 --map-group=13 squid -N -f ${at('squid.conf')} & squid=$! pids="$pids $!"
trap 'kill $pids; wait' EXIT
for port in 10.9.0.1:80 10.9.0.1:443 10.9.0.4:80 10.9.0.4:443 10.9.0.3:3128; do
  until ss -ltn | grep -q $port; do kill -0 $squid; sleep 0.05; done
done
${commands}
`;

function run(options: string, script: string, more?: string) {
  writeFileSync(at('access.log'), '');
  writeFileSync(at('squid.conf'), configuration(more));
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

t.test('WebSocket: by CONNECT, or passed on where squid lets it; refused where it lets neither', async (t) => {
  const client = `NODE_TLS_REJECT_UNAUTHORIZED=0 NODE_NO_WARNINGS=1 timeout 30 ${process.execPath} ${at('client.js')}`;
  const names = 'mount --bind';
  const script = `${names} ${at('hosts')} /etc/hosts; ${client} wss://chat.example/a; ${client} ws://chat.example/b; ${client} ws://10.9.0.4/c`;
  const options = `--proxy-credential ${at('right')}`;
  const connect = 'acl plain port 80\nacl mine src 10.9.0.0/24\nhttp_access allow plain mine';
  const passed = 'http_upgrade_request_protocols websocket allow all';

  const tunnels = run(options, script, connect);
  t.equal(tunnels.stdout, 'hello /a\nhello /b\nhello /c\n', tunnels.stderr);
  t.match(tunnels.log, [
    /^CONNECT 10\.9\.0\.4:80 .* 200/,
    /^CONNECT chat\.example:443 me 200/,
    /^CONNECT chat\.example:80 .* 200/,
  ]);

  const passing = run(options, script, passed);
  t.equal(passing.stdout, 'hello /a\nhello /b\nhello /c\n', passing.stderr);
  t.match(
    passing.log.filter((line) => line.startsWith('GET')),
    [/^GET http:\/\/10\.9\.0\.4\/c me 101/, /^GET http:\/\/chat\.example\/b me 101/],
  );

  const neither = run(options, script);
  t.equal(neither.stdout, 'hello /a\nfailed\nfailed\n', neither.stderr);
  t.notMatch([tunnels, passing, neither].map(({ stdout, stderr }) => stdout + stderr).join(''), /secret-of-mine/);
});
