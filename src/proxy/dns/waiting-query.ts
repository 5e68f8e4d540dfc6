/** A guest's datagram with a query that waits for the host's name servers. Used again. */

import type { Endpoints, UdpDatagram } from '../../stack/port.ts';
import { ADDRESS_OCTETS, type Address, equal } from '../../stack/wire/address.ts';
import { DOUBLE_ZERO } from '../../stack/wire/double.ts';
import type { NameServer } from '../port.ts';
import type { Query } from './message.ts';
import { DNS_PORT } from './name-servers.ts';
import type { AnswerSource, QueryOutcome } from './query-log.ts';
import type { Asker } from './upstream.ts';

/** A query that was forwarded, by the configuration of a `generation`. */
export interface Asked extends QueryOutcome {
  readonly generation: number;
}

export type Answered = (
  waiting: Waiting,
  answer: Uint8Array | undefined,
  query: Uint8Array,
  server: NameServer | undefined,
) => void;

export class Waiting implements Endpoints, Asker, Asked {
  readonly guestAddress: Address = new Uint8Array(ADDRESS_OCTETS);
  readonly peerAddress: Address = new Uint8Array(ADDRESS_OCTETS);
  guestPort = 0;
  readonly peerPort = DNS_PORT;
  ingress = 0;
  id = 0;
  nameHash = 0;
  type = 0;
  /** Of the configuration that it is asked by. */
  generation = 0;
  zone: string | undefined;
  askedMs = DOUBLE_ZERO;
  readonly protocol = 'udp';
  source: AnswerSource = 'none';
  server: NameServer | undefined;
  readonly #answered: Answered;

  constructor(answered: Answered) {
    this.#answered = answered;
  }

  begin(datagram: UdpDatagram, query: Query, zone: string | undefined, generation: number, nowMs: number): void {
    this.zone = zone;
    this.generation = generation;
    this.askedMs = nowMs;
    this.guestAddress.set(datagram.guestAddress);
    this.peerAddress.set(datagram.peerAddress);
    this.guestPort = datagram.guestPort;
    this.ingress = datagram.ingress;
    this.id = query.id;
    this.nameHash = query.nameHash;
    this.type = query.type;
  }

  get guest(): Address {
    return this.guestAddress;
  }

  /** Where such a query is looked for. */
  get key(): number {
    return (this.guestPort << 16) | this.id;
  }

  repeats(datagram: UdpDatagram, query: Query): boolean {
    return (
      this.nameHash === query.nameHash &&
      this.type === query.type &&
      this.ingress === datagram.ingress &&
      equal(this.guestAddress, datagram.guestAddress)
    );
  }

  answered(answer: Uint8Array | undefined, query: Uint8Array, server: NameServer | undefined): void {
    this.#answered(this, answer, query, server);
  }
}
