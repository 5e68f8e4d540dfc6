/** The corpus, frame by frame, and a few rounds of `npm run fuzz`; the seed of one that fails is in its name. */

import t from 'tap';
import { recordFailure } from '../stack/recorded-stack.ts';
import { World } from '../stack/world.ts';
import { readCorpus } from './corpus.ts';
import { HostileMessages } from './hostile-messages.ts';
import { HostileNames } from './hostile-names.ts';
import { HostileRound } from './hostile-traffic.ts';

const corpus = readCorpus();

t.test('the corpus leaves nothing behind', async (t) => {
  t.ok(corpus.length > 0);
  for (const { name, frames } of corpus)
    for (const checksum of [0, 1])
      for (const split of [undefined, 34, 54]) {
        const world = new World({ forwarder: { tcp: (connection) => connection.reject('reset') } });
        world.link.input(frames, checksum, split);
        world.advance(3_600_000);
        t.same(world.netstack.flows(), [], name);
        t.equal(world.netstack.pollAt(), Number.POSITIVE_INFINITY);
      }
});

t.test('hostile rounds', async (t) => {
  const frames = corpus.flatMap((file) => file.frames);
  let established = 0;
  for (let seed = 1; seed <= 12; seed++) {
    const round = recordFailure(`fuzz-${seed}`, () => new HostileRound(seed, frames).run(2000));
    t.ok(round.frames >= 2000, `seed ${seed}: ${round.sent} frames sent, ${round.connections} connections`);
    established += round.established;
  }
  t.ok(established > 100, `${established} handshakes went through`);
});

t.test('hostile names', async (t) => {
  let answers = 0;
  for (let seed = 1; seed <= 4; seed++) {
    const round = new HostileNames(seed).run(1500);
    t.ok(round.messages >= 1500, `seed ${seed}: ${round.answers} answers at once`);
    answers += round.answers;
  }
  t.ok(answers > 400, `${answers} answers`);
});

t.test('hostile messages', async (t) => {
  for (let seed = 1; seed <= 4; seed++) {
    const round = await new HostileMessages(seed).run(2500);
    t.ok(round.messages >= 2500 && round.answers > 50, `seed ${seed}: ${round.answers} answers`);
  }
});
