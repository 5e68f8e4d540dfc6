/** The platform's figures in Prometheus' text format, version 0.0.4. */

import { memoryUsage } from 'node:process';
import { type NetworkPort, type PlatformPort, StateError } from './port.ts';

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

const states = ['starting', 'running', 'paused', 'stopping', 'stopped', 'failed'];

export function metrics(platform: PlatformPort): string {
  const status = platform.status();
  return [
    family('slipway_state', 'gauge', '1 for the state that the VM is in', byLabel('state', states, status.state)),
    family('slipway_docker_ready', 'gauge', '1 while Docker answers', [[{}, Number(status.docker.ready)]]),
    family(
      'slipway_boot_seconds',
      'gauge',
      "seconds from the hypervisor's start to each step of the boot",
      Object.entries(status.boot).map(([step, seconds]) => [{ step }, seconds]),
    ),
    family('slipway_vm_restarts_total', 'counter', 'restarts after the VM stopped by itself', [[{}, status.restarts]]),
    family('slipway_published_ports', 'gauge', 'published ports', [[{}, status.ports.length]]),
    networkMetrics(platform),
  ].join('');
}

/** Those of a network alone, and of its process. */
export function networkMetrics(network: NetworkPort): string {
  const flows = network.flows();
  const protocols = ['tcp', 'udp', 'icmp'];
  const sum = (of: 'octetsToGuest' | 'octetsToHost'): number => flows.reduce((octets, flow) => octets + flow[of], 0);
  return [
    family(
      'slipway_flows',
      'gauge',
      'live flows of the network',
      protocols.map((protocol) => [{ protocol }, flows.filter((flow) => flow.protocol === protocol).length]),
    ),
    family('slipway_live_flow_octets', 'gauge', 'octets that the live flows have carried', [
      [{ direction: 'to_guest' }, sum('octetsToGuest')],
      [{ direction: 'to_host' }, sum('octetsToHost')],
    ]),
    family(
      'slipway_drops_total',
      'counter',
      'frames and packets dropped, by reason',
      Object.entries(network.drops()).map(([reason, count]) => [{ reason }, count]),
    ),
    family(
      'slipway_dns_total',
      'counter',
      'DNS queries, and what became of them',
      Object.entries(dnsCounts(network)).map(([event, count]) => [{ event }, count]),
    ),
    family('process_resident_memory_bytes', 'gauge', 'resident memory', [[{}, memoryUsage.rss()]]),
  ].join('');
}

/** Nothing while there is no network. */
function dnsCounts(network: NetworkPort): Readonly<Record<string, number>> {
  try {
    return network.dns(Number.MAX_SAFE_INTEGER).counts;
  } catch (error) {
    if (error instanceof StateError) return {};
    throw error;
  }
}

function byLabel(name: string, values: readonly string[], current: string): Sample[] {
  return values.map((value) => [{ [name]: value }, Number(value === current)]);
}

function family(name: string, type: string, help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${text.replace(/["\\\n]/g, '_')}"`);
    return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}
