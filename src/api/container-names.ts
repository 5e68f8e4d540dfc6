/**
 * Containers' addresses by their names, from the Docker API: asked each time, since containers come and go, and of one
 * look several may be answered that come at once. A name is a container's own, in any case of letters, or its id.
 */

import { Agent, request } from 'undici';
import type { ContainerNamesPort } from '../proxy/entrance/port.ts';
import { type Address, isIpv4, parseAddress } from '../stack/wire/address.ts';

const TIMEOUT_MS = 5000;
/** An id, or enough of its beginning to be one. */
const id = /^[0-9a-f]{12,64}$/;

/** What of `GET /containers/json` is of use. */
interface Listed {
  readonly Id?: string;
  readonly Names?: readonly string[];
  readonly NetworkSettings?: { readonly Networks?: Readonly<Record<string, { readonly IPAddress?: string }>> };
}

export class ContainerNames implements ContainerNamesPort {
  readonly #agent: Agent;
  #look: Promise<readonly Listed[]> | undefined;

  constructor(socketPath: string) {
    this.#agent = new Agent({ connect: { socketPath }, headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS });
  }

  async addressOf(name: string): Promise<Address | undefined> {
    this.#look ??= this.#list().finally(() => {
      this.#look = undefined;
    });
    const all = await this.#look;
    const lower = name.toLowerCase();
    const named =
      all.find(({ Names = [] }) => Names.includes(`/${name}`)) ??
      all.find(({ Names = [] }) => Names.some((one) => one.toLowerCase() === `/${lower}`)) ??
      all.find(({ Id = '' }) => id.test(lower) && Id.startsWith(lower));
    for (const { IPAddress = '' } of Object.values(named?.NetworkSettings?.Networks ?? {})) {
      const address = parseAddress(IPAddress);
      if (address && isIpv4(address)) return address;
    }
    return undefined;
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #list(): Promise<readonly Listed[]> {
    const { statusCode, body } = await request('http://docker/containers/json', { dispatcher: this.#agent });
    const text = await body.text();
    if (statusCode !== 200) throw new Error(`Docker's list of containers: ${statusCode}`);
    return JSON.parse(text) as Listed[];
  }
}
