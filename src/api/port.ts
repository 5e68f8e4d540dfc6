/** The running platform, or a network core alone, as the HTTP API (and through it the command line and the page) sees it. */

import type { Observable } from 'rxjs';
import type { SettingsPort } from '../config/port.ts';
import type { SettingName } from '../config/schema.ts';
import type { Accelerator, MachineState } from '../hypervisor/port.ts';
import type { DnsReport } from '../proxy/dns.ts';
import type { PolicyAnswer, PolicyQuestion } from '../proxy/policy/explanation.ts';
import type { PolicyRule } from '../proxy/policy/rule.ts';
import type { PolicyReport } from '../proxy/policy.ts';
import type { PublishedPort } from '../proxy/published-ports.ts';
import type { Capture, CaptureOptions } from '../stack/link/capture.ts';
import type { Conditions } from '../stack/link/conditions.ts';
import type { Address, FlowRecord } from '../stack/port.ts';

export interface PlatformStatus {
  readonly state: MachineState;
  /** Why it failed, or why it is not ready, in one line that names the remedy. */
  readonly reason?: string;
  /** Whether Docker answers on the host's socket. */
  readonly docker: { readonly ready: boolean; readonly version?: string };
  readonly accelerator?: Accelerator;
  readonly acceleratorReason?: string;
  readonly channel?: 'vsock' | 'serial';
  readonly versions: Readonly<Record<string, string>>;
  /** Seconds from the hypervisor's start to each step of the boot. */
  readonly boot: Readonly<Record<string, number>>;
  /** When the hypervisor started, in milliseconds since the epoch. */
  readonly startedAtMs?: number;
  readonly home: string;
  readonly sockets: Readonly<Record<string, string>>;
  readonly pids: Readonly<Record<string, number>>;
  readonly network: {
    readonly subnet: string;
    readonly mtu: number;
    readonly connected: boolean;
    /** How frames travel, and why not by vhost-user where that was wished for. */
    readonly link?: 'vhost-user' | 'stream';
    readonly linkReason?: string;
  };
  readonly ports: readonly PublishedPort[];
  /** How often the VM was started again after it stopped by itself. */
  readonly restarts: number;
  /** What is wrong with the stored settings, while the last good ones stay in force. */
  readonly settingsProblem?: string;
  /** Settings that have changed and take effect when the VM restarts. */
  readonly pendingRestart: readonly SettingName[];
}

/** What a network shows of itself, with or without a platform around it. */
export interface NetworkPort {
  flows(): readonly FlowRecord[];
  drops(): Readonly<Record<string, number>>;
  /** Whom names are asked of, and the queries of late with a number above `after`. Throws a `StateError` while there is no network. */
  dns(after?: number): DnsReport;
  /** The addresses that guests are given for a name; empty: there are none. Throws a `StateError` while there is no network. */
  addressesOf(name: string): Promise<readonly Address[]>;
  /** The policy in force, how often each rule decided, and what was denied lately. Throws a `StateError` while there is no network. */
  policy(): PolicyReport;
  /** What the policy says of a flow to `host`; undefined: it is neither an address nor a name of the network's own. */
  checkPolicy(host: string, question: PolicyQuestion): readonly PolicyAnswer[] | undefined;
  /** Captures the network's frames until it is stopped, or the network goes. Throws a `StateError` while there is none. */
  capture(options: Pick<CaptureOptions, 'sink' | 'filter' | 'snapOctets' | 'stopped'>): Capture;
}

/** The network core alone, whose options nobody else keeps. */
export interface CorePort extends NetworkPort {
  usePolicyRules(rules: readonly PolicyRule[]): void;
  conditions(): Conditions | undefined;
  useConditions(conditions: Conditions | undefined): void;
}

export interface PlatformPort extends NetworkPort {
  status(): PlatformStatus;
  /** The status now, then at each change. */
  readonly changes: Observable<PlatformStatus>;
  readonly settings: SettingsPort;
  /** Stops the VM in order and starts it again with the settings as they are now. Rejects with a `StateError` when it cannot. */
  restart(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Stops the VM in order and then everything else. */
  shutdown(): Promise<void>;
}

/** The platform's state does not allow what was asked. */
export class StateError extends Error {
  readonly code = 'STATE';
}
