/** The flight against a plain model: a fate for each octet. */

import fc from 'fast-check';
import t from 'tap';
import { Flight, type Run } from '../../../src/stack/tcp/flight.ts';
import { seq, seqAdd, seqSub } from '../../../src/stack/tcp/seq.ts';

const place = fc.integer({ min: 0, max: 60 });
const step = fc.record({
  do: fc.constantFrom(
    'send',
    'send',
    'acknowledge',
    'sack',
    'sack',
    'lose',
    'again',
    'tail',
    'all',
    'first',
    'found',
    'forget',
  ),
  from: place,
  octets: fc.integer({ min: 1, max: 40 }),
  pause: fc.boolean(),
} as const);

t.test('runs cover what is in flight, each octet with its fate, whatever happens to them', async (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.array(step, { maxLength: 80 }), (start, steps) => {
      const flight = new Flight();
      const iss = seq(start);
      flight.start(iss);
      let una = 0;
      /** Of the octets from `una` on. */
      let fates: Run['fate'][] = [];
      let nowMs = 0;
      const at = (octet: number) => seqAdd(iss, una + octet);
      const all = (from: Run['fate'], to: Run['fate']): void => {
        fates = fates.map((fate) => (fate === from ? to : fate));
      };
      for (const { do: what, from, octets, pause } of steps) {
        if (pause) nowMs++;
        flight.begin();
        const to = Math.min(from + octets, fates.length);
        if (what === 'send') {
          flight.sent(at(fates.length), at(fates.length + octets), nowMs);
          fates.push(...Array.from({ length: octets }, () => 'flying' as const));
        } else if (what === 'acknowledge') {
          const acknowledged = Math.min(octets, fates.length);
          flight.acknowledge(at(acknowledged), nowMs, 0);
          una += acknowledged;
          fates.splice(0, acknowledged);
        } else if (what === 'sack' && from < to) {
          const news = flight.sack(at(from), at(to), nowMs, 0);
          if (news !== fates.slice(from, to).filter((fate) => fate !== 'sacked').length) throw new Error('news');
          fates.fill('sacked', from, to);
        } else if (what === 'lose' && flight.runs.length > 0) {
          const index = from % flight.runs.length;
          const run = flight.runs[index]!;
          if (run.fate !== 'flying') continue;
          fates.fill('lost', seqSub(run.start, at(0)), seqSub(run.end, at(0)));
          const now = flight.runs[flight.lose(index)]!;
          if (now.fate !== 'lost') throw new Error('another run');
        } else if (what === 'again' && flight.lostOctets > 0) {
          const index = flight.firstLost();
          const run = flight.runs[index]!;
          const begin = fates.indexOf('lost');
          const count = Math.min(octets, seqSub(run.end, run.start));
          if (seqSub(run.start, at(0)) !== begin) throw new Error('not the first');
          flight.resent(index, count, nowMs);
          fates.fill('flying', begin, begin + count);
        } else if (what === 'tail' && fates.length > 0) {
          const run = flight.runs[flight.splitTail(octets)]!;
          if (run.end !== at(fates.length) || seqSub(run.end, run.start) > octets) throw new Error('not the tail');
        } else if (what === 'all') {
          flight.loseAll();
          all('flying', 'lost');
        } else if (what === 'first' && fates[0] === 'flying') {
          const first = flight.runs[0]!;
          const count = Math.min(octets, seqSub(first.end, first.start));
          flight.loseFirst(octets);
          fates.fill('lost', 0, count);
        } else if (what === 'found') {
          flight.findAll();
          all('lost', 'flying');
        } else if (what === 'forget') {
          flight.forgetSacks();
          all('sacked', 'flying');
        }
        let next = at(0);
        const found: Run['fate'][] = [];
        for (const run of flight.runs) {
          if (run.start !== next || seqSub(run.end, run.start) <= 0) throw new Error('runs do not follow each other');
          for (let i = seqSub(run.end, run.start); i > 0; i--) found.push(run.fate);
          next = run.end;
        }
        if (found.join() !== fates.join()) throw new Error(`${what}: ${found} is not ${fates}`);
        const count = (wanted: Run['fate']): number => fates.filter((fate) => fate === wanted).length;
        if (flight.sackedOctets !== count('sacked') || flight.lostOctets !== count('lost')) throw new Error('sums');
      }
    }),
    { numRuns: 500 },
  );
  t.pass('500 flights');
});

t.test('a stream without loss has a run for each time that something was sent', async (t) => {
  const flight = new Flight();
  for (let i = 0; i < 100; i++) flight.sent(seq(10 * i), seq(10 * i + 10), Math.floor(i / 25));
  t.equal(flight.runs.length, 4);
  t.equal(flight.sampleMs, -1);
  flight.begin();
  flight.acknowledge(seq(500), 10, 0);
  t.equal(flight.sampleMs, 9, 'of what was sent last');
  t.equal(flight.runs.length, 2);
});

t.test('the number of runs is bounded, whatever blocks the peer makes up', async (t) => {
  const flight = new Flight();
  flight.sent(seq(0), seq(100_000), 0);
  for (let i = 0; i < 50_000; i++) flight.sack(seq(2 * i), seq(2 * i + 1), 1, 0);
  t.ok(flight.runs.length <= 2050, `${flight.runs.length} runs`);
  flight.acknowledge(seq(100_000), 2, 0);
  t.same([flight.runs.length, flight.sackedOctets, flight.lostOctets], [0, 0, 0]);
});
