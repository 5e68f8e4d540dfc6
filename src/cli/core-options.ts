/** Options that every command of the network core alone has: how they are read, and what they lead to. */

import { readFileSync } from 'node:fs';
import { parseSetting } from '../config/schema.ts';
import type { TapAddresses } from '../hypervisor/link/tap-device.ts';
import type { Network, NetworkOptions } from '../network.ts';
import type { ProxySettings } from '../proxy/http-proxy/guest-routes.ts';
import { parseConditions } from '../stack/link/conditions.ts';
import { formatAddress, ofIpv4, parseSubnet } from '../stack/wire/address.ts';
import { type CaptureRequest, captureHelp, captureOptions, readCaptureOptions } from './capture.ts';
import { type DnsValues, dnsHelp, dnsOptions, readDnsOptions } from './dns-options.ts';
import { type EntranceRequest, entranceHelp, entranceOptions, openEntrance, readEntranceOptions } from './entrance.ts';
import { watchPolicyFile } from './policy-file.ts';
import {
  type OptionToken,
  type PolicyChoices,
  policyHelp,
  policyOptions,
  readPolicyOptions,
} from './policy-options.ts';
import { type ProxyValues, proxyHelp, proxyOptions, readProxyOptions } from './proxy-options.ts';
import { type PublishSpec, parsePublishSpec } from './publish-spec.ts';
import { readRecordingOptions, recordingHelp, recordingOptions } from './recording.ts';
import { UsageError } from './usage-error.ts';

/** For `parseArgs`. */
export const coreOptions = {
  mtu: { type: 'string' },
  subnet: { type: 'string' },
  subnet6: { type: 'string' },
  publish: { type: 'string', multiple: true },
  ...dnsOptions,
  'host-sockets': { type: 'string' },
  conditions: { type: 'string', multiple: true },
  api: { type: 'string' },
  ...policyOptions,
  ...proxyOptions,
  ...entranceOptions,
  ...captureOptions,
  ...recordingOptions,
} as const;

export const coreHelp = `  --mtu N               largest IP packet, 576 to 65520 (default 1500)
  --subnet CIDR         the guests' network (default 192.168.65.0/24): gateway and DNS .1, host .2, first guest .3
  --subnet6 CIDR|off    their IPv6 network, a /64 (default: a unique local one that goes with the subnet): gateway ::1,
                        host ::2, first guest ::3
  --publish SPEC        publish a port of a guest on the host; may be repeated. SPEC is
                        [tcp|udp:][HOSTIP:]HOSTPORT[-LAST]:[GUESTIP:]GUESTPORT[-LAST], IPv6 addresses in brackets;
                        without HOSTIP 127.0.0.1 and ::1, without GUESTIP the first guest
${dnsHelp}  --host-sockets KIND   native (system calls, on Linux; the default) or portable (Node's own sockets)
  --conditions TEXT     make the network worse: delay=40ms,jitter=5ms,loss=1%,burst=1%/25%,rate=10mbit,queue=64k,
                        reorder=1%,duplicate=1%,corrupt=0.1%; for a part of it with direction=up|down (up is from
                        the guest) and to=CIDR; rules are set apart by ';', the first that fits holds; seed=N
  --api PATH            be asked on a unix socket: slipway net flows|policy|dns|capture|conditions
                        --api PATH, and HTTP (/openapi.json)
${policyHelp}${proxyHelp}${entranceHelp}${captureHelp}${recordingHelp}`;

export interface CoreOptions extends NetworkOptions, PolicyChoices {
  readonly publish: readonly PublishSpec[];
  readonly capture: CaptureRequest | undefined;
  readonly entrance: EntranceRequest | undefined;
  readonly proxy: ProxySettings | undefined;
  /** The file of a recording. */
  readonly record: string | undefined;
  readonly api: string | undefined;
}

type CoreValues = ProxyValues &
  DnsValues &
  Parameters<typeof readCaptureOptions>[0] &
  Parameters<typeof readEntranceOptions>[0] &
  Parameters<typeof readPolicyOptions>[0] &
  Parameters<typeof readRecordingOptions>[0] & {
    readonly mtu?: string | undefined;
    readonly subnet?: string | undefined;
    readonly subnet6?: string | undefined;
    readonly publish?: string[] | undefined;
    readonly conditions?: string[] | undefined;
    readonly 'host-sockets'?: string | undefined;
    readonly api?: string | undefined;
  };

export function readCoreOptions(values: CoreValues, tokens: readonly OptionToken[]): CoreOptions {
  const { mtu = '1500', subnet = '192.168.65.0/24', subnet6 = 'auto', publish = [], conditions } = values;
  const { 'host-sockets': hostSockets = 'native' } = values;
  if (hostSockets !== 'native' && hostSockets !== 'portable')
    throw new UsageError(`--host-sockets: '${hostSockets}' is neither native nor portable`);
  return {
    mtu: usage(() => parseSetting('network.mtu', mtu), '--mtu: '),
    subnet: usage(() => parseSetting('network.subnet', subnet), '--subnet: '),
    subnet6: usage(() => parseSetting('network.subnet6', subnet6), '--subnet6: '),
    publish: publish.flatMap(parsePublishSpec),
    hostSockets,
    api: values.api,
    capture: readCaptureOptions(values),
    entrance: readEntranceOptions(values),
    proxy: readProxyOptions(values),
    record: readRecordingOptions(values),
    ...readPolicyOptions(values, tokens),
    conditions: conditions && usage(() => parseConditions(conditions.join(';')), '--conditions: '),
    ...readDnsOptions(values),
  };
}

/** What is wrong with an option is wrong usage. */
export function usage<T>(read: () => T, prefix = ''): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(prefix + (error as Error).message);
  }
}

/**
 * Takes over proxies, opens what the host reaches guests and the network itself by, and follows the file of rules; throws
 * for the first that cannot be. The result ends what does not end with the network.
 */
export async function openToHost(
  network: Network,
  options: CoreOptions,
  report: (line: string) => void,
): Promise<() => Promise<void>> {
  const { publish, entrance, proxy, policyFile, api } = options;
  await network.useHttpProxy(proxy);
  for (const spec of publish) await publishPort(network, spec);
  await openEntrance(network, entrance);
  // Loaded when it is asked for: most cores have none.
  const endApi = api === undefined ? undefined : await (await import('./core-api.ts')).openApi(network, api);
  const endWatch =
    policyFile &&
    watchPolicyFile(policyFile.path, (rules) => network.usePolicyRules([...policyFile.before, ...rules]), report);
  return async () => {
    endWatch?.();
    await endApi?.();
  };
}

async function publishPort(network: Network, spec: PublishSpec): Promise<void> {
  const { firstGuest, ipv6 } = network.addresses;
  const guestAddress = spec.guestAddress ?? formatAddress(firstGuest);
  const { protocol, guestPort } = spec;
  let { hostPort } = spec;
  for (const hostAddress of spec.hostAddress === undefined ? ['127.0.0.1', '::1'] : [spec.hostAddress]) {
    try {
      const guestAddress6 =
        spec.guestAddress === undefined && ipv6 && hostAddress.includes(':')
          ? formatAddress(ipv6.firstGuest)
          : undefined;
      const to = { guestAddress, guestAddress6, guestPort };
      const exposed = await network.expose({ protocol, hostAddress, hostPort, ...to });
      hostPort = exposed.port;
    } catch (error) {
      // A host without IPv6 has no ::1; nobody asked for it by name.
      const { code } = error as NodeJS.ErrnoException;
      if (spec.hostAddress !== undefined || hostAddress !== '::1' || !noAddress.has(code ?? '')) throw error;
    }
  }
}

const noAddress = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EPROTONOSUPPORT']);

/** The first guest's addresses, for whoever sets up its interface without DHCP. */
export function firstGuest(network: Network, options: CoreOptions): TapAddresses {
  const { gateway, firstGuest, ipv6 } = network.addresses;
  const prefix = parseSubnet(options.subnet)!.prefix - 96;
  return {
    address: formatAddress(firstGuest),
    netmask: formatAddress(ofIpv4(-1 << (32 - prefix))),
    gateway: formatAddress(gateway),
    ipv6: ipv6 && { address: [...ipv6.firstGuest], gateway: [...ipv6.gateway] },
    mtu: options.mtu,
  };
}

/** A resolv.conf that asks the network's own name server, with the search list and options of the host's. */
export function guestResolvConf(network: Network, options: CoreOptions): string {
  let host = '';
  try {
    host = readFileSync(options.resolvConf ?? '/etc/resolv.conf', 'utf8');
  } catch {
    // Without one there is nothing to take over.
  }
  const kept = host.split('\n').filter((line) => /^(search|domain|options)\s/.test(line));
  const { gateway, ipv6 } = network.addresses;
  const servers = ipv6 ? [gateway, ipv6.gateway] : [gateway];
  return [...servers.map((address) => `nameserver ${formatAddress(address)}`), ...kept, ''].join('\n');
}
