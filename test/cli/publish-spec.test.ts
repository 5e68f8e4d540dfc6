/** --publish: every form of it, and what is refused. */

import t from 'tap';
import { parsePublishSpec } from '../../src/cli/publish-spec.ts';

const spec = (text: string): string =>
  parsePublishSpec(text)
    .map((s) => [s.protocol, s.hostAddress ?? '-', s.hostPort, s.guestAddress ?? '-', s.guestPort].join(' '))
    .join('; ');

t.test('every form', async (t) => {
  t.equal(spec('8080:80'), 'tcp - 8080 - 80');
  t.equal(spec('udp:53:5353'), 'udp - 53 - 5353');
  t.equal(spec('tcp:0.0.0.0:17001:7001'), 'tcp 0.0.0.0 17001 - 7001');
  t.equal(spec('127.0.0.1:8080:192.168.65.3:80'), 'tcp 127.0.0.1 8080 192.168.65.3 80');
  t.equal(spec('8080:172.17.0.2:80'), 'tcp - 8080 172.17.0.2 80');
  t.equal(spec('udp:[::1]:8080:[fd00::3]:80'), 'udp ::1 8080 fd00::3 80');
  t.equal(spec('[::]:0:80'), 'tcp :: 0 - 80');
  t.equal(spec('8000-8002:9000-9002'), 'tcp - 8000 - 9000; tcp - 8001 - 9001; tcp - 8002 - 9002');
});

t.test('what is refused, and why', async (t) => {
  const refused = (text: string, why: RegExp) =>
    t.throws(() => parsePublishSpec(text), { code: 'USAGE', message: why });
  refused('', /missing/);
  refused('80', /a port is missing/);
  refused('80:', /missing or malformed/);
  refused(':80:80', /missing or malformed/);
  refused('80:80:80', /left over/);
  refused('localhost:80:80', /'localhost' is not an address/);
  refused('::1:80:80', /malformed/);
  refused('[127.0.0.1]:80:80', /is not an address/);
  refused('fe80::1:80', /malformed/);
  refused('80:70000', /ports are from 1/);
  refused('80:0', /ports are from 1/);
  refused('90-80:80-90', /backwards/);
  refused('80-90:80', /differ in length/);
  refused('sctp:80:80', /'sctp' is not an address/);
  refused('80-:80', /missing/);
});
