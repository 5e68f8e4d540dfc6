/** `slipway net replay`: runs the network core over a recording, and tells whether it does what it did then. */

import { Network, type NetworkOptions } from '../network.ts';
import type { DnsRecord } from '../proxy/dns/records.ts';
import type { RequestName } from '../proxy/outside.ts';
import type { PolicyQuestion } from '../proxy/policy/explanation.ts';
import type { PolicyRule } from '../proxy/policy/rule.ts';
import type { HostPorts } from '../proxy/policy.ts';
import type { DnsChoices } from '../proxy/port.ts';
import type { ExposedPort, ExposeRequest } from '../proxy/port-forward.ts';
import type { Player } from '../proxy/recording/player.ts';
import { type DecodedRecord, RecordDecoder } from '../proxy/recording/record-decoder.ts';
import { firstDifference, recordLine } from '../proxy/recording/record-line.ts';
import { type Replayed, type ReplayResult, replay } from '../proxy/recording/replay.ts';
import type { LinkDescription } from '../proxy/recording/replayed-link.ts';
import { ReplayedOutside } from '../proxy/recording/replayed-outside.ts';
import { replayedStack, type StackDescription } from '../proxy/recording/replayed-stack.ts';
import type { Conditions } from '../stack/link/conditions.ts';
import { command, printJson, runCommand } from './command.ts';
import { readRecording } from './recording-file.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const example = 'slipway net serve --qemu /tmp/net.sock --record /tmp/net.rec\nslipway net replay /tmp/net.rec';
  let status = 0;
  const program = command('net replay', 'run the core over a recording, and compare what it sends', example)
    .argument('<file>', "what 'net serve' or 'net run' wrote with --record")
    .option('--json', 'print the result as JSON')
    .option('--list', 'print the records instead of running anything')
    .action(async (file: string, { json, list }: { json?: boolean; list?: boolean }) => {
      if (list) return readRecording(file, async (source) => printRecords(new RecordDecoder(source)));
      const result = await replayFile(file);
      if (json) printJson(resultData(result));
      else process.stdout.write(resultText(file, result));
      status = result.difference ? 1 : 0;
    });
  const usage = await runCommand(program, argv);
  return usage || status;
}

/** Runs what was recorded in a file. */
export const replayFile = (file: string): Promise<ReplayResult> =>
  readRecording(file, (source) => replay(source, remake));

/** The network that was recorded, or the bare stack, as tests leave it. */
export function remake(player: Player, of: Readonly<Record<string, unknown>>): Replayed {
  if (of.stack) return replayedStack(player, of.stack as StackDescription);
  const outside = new ReplayedOutside(player);
  const network = new Network({ ...(of.network as NetworkOptions), outside });
  const exposed: Promise<ExposedPort | undefined>[] = [];
  const requests: Readonly<Record<RequestName, (argument: unknown) => void>> = {
    attach: (link) => network.attach(outside.describedLink(link as LinkDescription)),
    expose: (request) => exposed.push(network.expose(request as ExposeRequest).catch(() => undefined)),
    unexpose: (number) => void exposed[number as number]?.then((port) => port?.close()),
    useConditions: (conditions) => network.useConditions(conditions as Conditions | undefined),
    useDns: (choices) => network.useDns(choices as DnsChoices),
    useDnsRecords: (records) => network.useDnsRecords(records as DnsRecord[]),
    dns: (asked) => void network.dns((asked as { after?: number }).after),
    usePolicyRules: (rules) => network.usePolicyRules(rules as PolicyRule[]),
    useHostPorts: (ports) => network.useHostPorts(ports as HostPorts),
    checkPolicy: (asked) => {
      const { host, question } = asked as { host: string; question: PolicyQuestion };
      network.checkPolicy(host, question);
    },
    close: () => network.close(),
  };
  return {
    request: (name, argument) => {
      if (Object.hasOwn(requests, name)) requests[name as RequestName](argument);
      else player.failed(`a network that knows no request '${name}'`);
    },
  };
}

function printRecords(decoder: RecordDecoder): void {
  // Whoever reads along may have seen enough.
  process.stdout.on('error', () => process.exit(0));
  let startMs = 0;
  let atMs = 0;
  for (let number = 1; ; number++) {
    const record = decoder.take();
    if (!record) return;
    if (number === 1) startMs = atMs = (record.values.of as { startMs?: number } | undefined)?.startMs ?? 0;
    atMs = (record.values.atMs as number | undefined) ?? atMs;
    process.stdout.write(`${number} ${((atMs - startMs) / 1000).toFixed(6)} ${recordLine(record)}\n`);
  }
}

export function resultText(file: string, result: ReplayResult): string {
  const { difference, records, framesIn, framesOut, octetsIn, octetsOut } = result;
  const seconds = (result.durationMs / 1000).toFixed(3);
  const frames = `${framesIn} frames (${octetsIn} octets) in, ${framesOut} (${octetsOut}) out`;
  if (!difference) {
    const end = result.ended ? '' : '; the recording has no end, as when its process is killed';
    return `identical: ${records} records of ${seconds} s, ${frames}${end}\n`;
  }
  const { record, offset, recorded, replayed, atMs } = difference;
  const what = firstDifference(difference);
  return [
    `different: ${file}, record ${record}${offset < 0 ? '' : `, octet ${offset}`}, after ${(atMs / 1000).toFixed(6)} s and ${frames}`,
    `  recorded: ${recorded ? recordLine(recorded) : 'nothing more'}`,
    `  replayed: ${words(replayed)}`,
    ...(what ? [`  ${what}`] : []),
    '',
  ].join('\n');
}

const words = (replayed: DecodedRecord | string | undefined): string =>
  replayed === undefined ? 'nothing' : typeof replayed === 'string' ? replayed : recordLine(replayed);

export function resultData({ difference, ...result }: ReplayResult): object {
  if (!difference) return { identical: true, ...result };
  const { record, offset, recorded, replayed, atMs } = difference;
  return {
    identical: false,
    ...result,
    difference: {
      record,
      offset,
      atMs,
      recorded: recorded ? recordLine(recorded) : null,
      replayed: words(replayed),
      what: firstDifference(difference) ?? null,
    },
  };
}
