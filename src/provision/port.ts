/** What provisioning asks of whoever starts it. */

/** Tells of slow work: steps with a label, and within a step what it is at. */
export interface ProvisionProgress {
  step<T>(label: string, work: () => Promise<T>): Promise<T>;
  detail(text: string): void;
}

/** An architecture, by Debian's name. */
export type DebianArch = 'amd64' | 'arm64';

/** For callers that show nothing. */
export const silentProgress: ProvisionProgress = {
  step: (_label, work) => work(),
  detail: () => undefined,
};
