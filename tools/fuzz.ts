/**
 * `npm run fuzz -- [--minutes N] [--seed N]`: hostile traffic (test/fuzz/hostile-traffic.ts) for a while, a seed a round,
 * and after each round hostile names (test/fuzz/hostile-names.ts), hostile messages to the gateway's other services
 * (test/fuzz/hostile-messages.ts) and random scripts against the model of TCP's state machine
 * (test/rfc/model-property.ts); reports frames a second, crashes and leaks. A round that fails says its seed, leaves its
 * last frames in the corpus, and the others go on; beside them is a recording of the round, for `slipway net replay`.
 * `--seed` runs that one round alone.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { corpusFolder, formatFrames, readCorpus } from '../test/fuzz/corpus.ts';
import { HostileMessages } from '../test/fuzz/hostile-messages.ts';
import { HostileNames } from '../test/fuzz/hostile-names.ts';
import { HostileRound } from '../test/fuzz/hostile-traffic.ts';
import { agreement } from '../test/rfc/model-property.ts';
import { recordAgain } from '../test/stack/recorded-stack.ts';

const FRAMES_A_ROUND = 20_000;
const NAMES_A_ROUND = 10_000;
const MESSAGES_A_ROUND = 20_000;
const SCRIPTS_A_ROUND = 200;
const REPORT_MS = 10_000;

function number(name: string, text: string): number {
  const value = Number(text);
  if (text !== '' && Number.isFinite(value) && value >= 0) return value;
  console.error(`--${name} takes a number, not '${text}'; for example: npm run fuzz -- --${name} 5`);
  process.exit(2);
}

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string' } } });
const minutes = number('minutes', values.minutes);
const only = values.seed === undefined ? undefined : number('seed', values.seed);
const corpus = readCorpus().flatMap((file) => file.frames);
const started = performance.now();
const until = started + minutes * 60_000;
const failures: string[] = [];
let seed = only ?? Math.floor(Math.random() * 2 ** 31);
let rounds = 0;
let frames = 0;
let connections = 0;
let names = 0;
let messages = 0;
let scripts = 0;
let reportAt = started + REPORT_MS;

function report(): void {
  const seconds = (performance.now() - started) / 1000;
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  const rate = Math.round(frames / seconds);
  console.log(
    `${rounds} rounds, ${frames} frames (${rate} a second), ${connections} connections, ${names} DNS messages, ${messages} of DHCP, NTP, SOCKS and HTTP, ${scripts} scripts, ${failures.length} failures, ${memory} MiB`,
  );
}

console.log(`first seed ${seed}, ${corpus.length} frames in the corpus`);
process.on('unhandledRejection', (error) => {
  console.error(error);
  console.error(`again: npm run fuzz -- --seed ${seed}`);
  process.exit(1);
});
do {
  const round = new HostileRound(seed, corpus);
  try {
    const result = round.run(FRAMES_A_ROUND);
    frames += result.frames;
    connections += result.connections;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const file = join(corpusFolder, `seed-${seed}.frames`);
    writeFileSync(file, formatFrames(`seed ${seed}: ${why}`, round.recent));
    failures.push(`seed ${seed}: ${why}`);
    console.error(error);
    const recording = recordAgain(
      `seed-${seed}`,
      () => new HostileRound(seed, corpus).run(FRAMES_A_ROUND),
      corpusFolder,
    );
    console.error(`again: npm run fuzz -- --seed ${seed}, or ${recording}; its last frames: ${file}`);
  }
  try {
    names += new HostileNames(seed).run(NAMES_A_ROUND).messages;
  } catch (error) {
    failures.push(`seed ${seed}: names: ${error instanceof Error ? error.message : String(error)}`);
    console.error(error);
    console.error(`again: npm run fuzz -- --seed ${seed}`);
  }
  try {
    messages += (await new HostileMessages(seed).run(MESSAGES_A_ROUND)).messages;
  } catch (error) {
    failures.push(`seed ${seed}: messages: ${error instanceof Error ? error.message : String(error)}`);
    console.error(error);
    console.error(`again: npm run fuzz -- --seed ${seed}`);
  }
  const model = fc.check(agreement(new Map()), { seed, numRuns: SCRIPTS_A_ROUND });
  scripts += model.numRuns;
  if (model.failed) {
    failures.push(`seed ${seed}: stack and model disagree`);
    const again = { seed, path: model.counterexamplePath ?? '', endOnFailure: true, numRuns: 1 };
    const recording = recordAgain(`model-${seed}`, () => fc.check(agreement(new Map()), again), corpusFolder);
    console.error(`${fc.defaultReportMessage(model)}\nIts recording: ${recording}`);
  }
  rounds++;
  seed = (seed + 1) % 2 ** 31;
  if (performance.now() >= reportAt) {
    report();
    reportAt += REPORT_MS;
  }
} while (only === undefined && performance.now() < until);
report();
for (const failure of failures) console.log(`FAILED ${failure}`);
process.exit(failures.length > 0 ? 1 : 0);
