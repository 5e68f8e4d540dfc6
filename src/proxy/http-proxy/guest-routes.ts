/**
 * Where guests' HTTP goes: through the upstream proxy of its kind, or straight to the server where there is none or the
 * target is excluded. The policy gate is asked about every address before anything is dialled, the proxy included: a name
 * of which no address is allowed is refused, a name that only the upstream proxy knows is its to resolve where rules let
 * the name itself through. Addresses of
 * the network itself (the host alias) are never the upstream's.
 *
 * Of a connection that was intercepted the address is known, and was allowed; the name that the guest says can only
 * narrow that.
 */

import type { Duplex } from 'node:stream';
import type { Address } from '../../stack/port.ts';
import { equal, formatAddress, parseAddress } from '../../stack/wire/address.ts';
import type { PolicyRule } from '../policy/rule.ts';
import type { Policy, PolicyFlow } from '../policy.ts';
import { HttpRefusal, type HttpTarget } from './message.ts';
import { NoProxy } from './no-proxy.ts';
import type { NameLookupPort } from './port.ts';
import type { ProxyUrl } from './proxy-url.ts';
import type { HttpRoute, HttpRoutes } from './relay.ts';
import { dial, dialProxy, dialThrough } from './upstream.ts';

export interface ProxySettings {
  /** For http:// and, by CONNECT, for everything else; undefined: none. */
  readonly http?: ProxyUrl | undefined;
  readonly https?: ProxyUrl | undefined;
  readonly noProxy: NoProxy;
  /** USER:PASSWORD for the upstream proxies, asked at each dial. */
  readonly credential?: (() => string | undefined) | undefined;
  /** What a guest is told of a host that the policy refuses; `%s` stands for it. */
  readonly refusal?: string | undefined;
}

/** Without an upstream proxy. */
export const direct: ProxySettings = { noProxy: NoProxy.parse('') };

/** Whose connection it is. */
export interface Client {
  readonly ingress: number;
  /** Of one that was intercepted: whom the guest had dialled. */
  readonly dialled?: Address;
}

export const defaultRefusal = 'the policy of this machine does not let containers reach %s';

type GatePolicy = Pick<Policy, 'destination' | 'recheck' | 'ruleOf' | 'unresolved'>;

/** What the gate was asked about, and let through. */
interface Led {
  readonly flow: PolicyFlow;
  /** With the rules that let them through; empty: a name that only an upstream proxy knows. */
  readonly addresses: readonly { readonly address: Address; readonly by: PolicyRule | undefined }[];
  readonly host: string;
}

/** How a target is to be reached. */
interface Way {
  /** Undefined: at `address`. */
  readonly proxy: ProxyUrl | undefined;
  readonly address: Address | undefined;
}

export class GuestRoutes implements HttpRoutes {
  readonly #policy: GatePolicy;
  readonly #names: NameLookupPort;
  readonly #clients = new WeakMap<Duplex, Client & { readonly number: number }>();
  #introduced = 0;
  /** Per connection, what the gate has let through last. */
  readonly #led = new WeakMap<Duplex, Led>();
  settings: ProxySettings;

  constructor(policy: GatePolicy, names: NameLookupPort, settings: ProxySettings) {
    this.#policy = policy;
    this.#names = names;
    this.settings = settings;
  }

  /** Says whose a connection is, before anything is asked for it. */
  introduce(stream: Duplex, client: Client): void {
    this.#clients.set(stream, { ...client, number: this.#introduced++ });
  }

  /** Whether the policy, which has changed, lets a connection be. */
  isAllowed(stream: Duplex): boolean {
    const led = this.#led.get(stream);
    if (!led) return true;
    if (led.addresses.length === 0) return this.#policy.unresolved(led.host, led.flow).allowed;
    return led.addresses.every(
      ({ address, by }) => this.#policy.recheck(address, { ...led.flow, allowedBy: by }).allowed,
    );
  }

  /**
   * A server's connection is one client's: whoever has authenticated on it (NTLM), or has made server and proxy disagree
   * about where a request ends, has done so for itself alone.
   */
  async route(target: HttpTarget, stream: Duplex): Promise<HttpRoute> {
    const { proxy, address } = await this.#way('http', target, stream);
    const { number } = this.#clients.get(stream)!;
    if (proxy) {
      const key = `${number} proxy ${proxy.tls} ${proxy.host} ${proxy.port}`;
      const connect = async () => endWith(stream, await dialProxy(proxy, stream));
      return { key, proxy: { credential: this.settings.credential?.() }, connect };
    }
    const to = { host: formatAddress(address!), port: target.port };
    return { key: `${number} ${to.host} ${to.port}`, connect: async () => endWith(stream, await dial(to, stream)) };
  }

  /** An intercepted connection without a name, as any to another port than 80, goes the way of HTTPS. */
  async tunnel(target: HttpTarget, stream: Duplex): Promise<Duplex> {
    const { proxy, address } = await this.#way(target.port === 80 ? 'http' : 'https', target, stream);
    if (proxy) return dialThrough(proxy, target, this.settings.credential?.(), stream);
    return dial({ host: formatAddress(address!), port: target.port }, stream);
  }

  async #way(scheme: 'http' | 'https', { host, port }: HttpTarget, stream: Duplex): Promise<Way> {
    const client = this.#clients.get(stream);
    if (!client) throw new HttpRefusal(500, 'nobody asked for this');
    const { ingress, dialled } = client;
    const proxy = this.settings[scheme];
    const literal = parseAddress(host);
    const name = literal ? undefined : host;
    const flow = { protocol: 'tcp', port, ingress } as const;
    const named =
      name === undefined ? flow : dialled ? { ...flow, claimedName: name } : { ...flow, resolvedName: name };
    // What is known of it: the guest's own choice, and what the name stands for.
    const known = literal ? [literal] : dialled && !proxy ? [] : await this.#names.addressesOf(host, ingress);
    const addresses = dialled ? [dialled, ...known.filter((address) => !equal(address, dialled))] : known;
    const verdicts = addresses.map((address) => this.#policy.destination(address, named));
    // Where no proxy is asked this is dialled.
    const here = (dialled ? verdicts.slice(0, 1) : verdicts).find((verdict) => verdict.allowed);
    // The upstream proxy chooses among a name's addresses by itself; what a guest says may not widen what it dialled.
    const all = proxy !== undefined || dialled !== undefined;
    if (verdicts.length > 0 && !(all ? verdicts.every((verdict) => verdict.allowed) : here)) throw this.#refused(host);
    if (known.length === 0 && (!dialled || proxy) && !this.#policy.unresolved(host, flow).allowed)
      throw this.#refused(host);

    const held = all ? verdicts : here ? [here] : [];
    const led = addresses.flatMap((address, i) =>
      held.includes(verdicts[i]!) ? [{ address, by: this.#policy.ruleOf(verdicts[i]!) }] : [],
    );
    this.#led.set(stream, { flow: named, addresses: led, host });

    // The host alias leads elsewhere: it is ours alone.
    const isOwn = here !== undefined && !addresses.some((address) => equal(address, here.address));
    if (proxy && !isOwn && !this.settings.noProxy.excludes({ name, addresses, port }))
      return { proxy, address: undefined };
    if (!here) throw new HttpRefusal(502, `${host} has no address`);
    return { proxy: undefined, address: here.address };
  }

  #refused(host: string): HttpRefusal {
    return new HttpRefusal(403, (this.settings.refusal || defaultRefusal).replaceAll('%s', host));
  }
}

/** A server's connection that is of no use without its client's. */
function endWith(client: Duplex, server: Duplex): Duplex {
  const gone = (): void => void server.destroy();
  client.once('close', gone);
  server.once('close', () => client.off('close', gone));
  if (client.destroyed) gone();
  return server;
}
