/**
 * The time server on the gateway: NTP's server mode, which keeps nothing of its clients. RFC 5905 9.2 (fast_xmit), of
 * versions 1 to 4, and so SNTP. The time is the host's own clock, and the answer tells as much about it as the host's
 * system does: leap second ahead, largest error, whether anything keeps it in step.
 *
 * A host whose clock nobody disciplines (a VM of a cloud, a container) is what its guests should follow all the same:
 * such a clock is announced at `FREE_RUNNING`, the stratum that servers take for a clock of their own, not as unusable.
 *
 * An answer is never longer than its request. Dropped and counted: what is no message, other modes (control and private
 * messages, which amplify, among them), and messages with a MAC, as there are no keys.
 */

import type { Address, NetstackPort, UdpDatagram } from '../stack/port.ts';
import { SOUND } from '../stack/wire/fault.ts';
import * as wire from '../stack/wire/ntp.ts';
import { gather } from './fragment-list.ts';
import type { WallClock } from './port.ts';

/** Of a host's clock that is in step: what its own server has is not to be known, and rarely worse. */
const IN_STEP = 3;
const FREE_RUNNING = 10;
/** "Its own clock", as an address that is nobody's server: a client that is the same host's knows it for no loop. */
const REFERENCE_ID = 0x7f7f0101;
const LONGEST = 1024;

type NtpNetstack = Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'sendUdp'>;

export class NtpServer {
  readonly #netstack: NtpNetstack;
  readonly #addresses: readonly Address[];
  readonly #clock: WallClock;
  readonly #in = new Uint8Array(LONGEST);
  readonly #inView = new DataView(this.#in.buffer);
  readonly #out = new Uint8Array(wire.HEADER_OCTETS);
  readonly #outView = new DataView(this.#out.buffer);
  /** Requests that were not answered, by reason. */
  readonly drops = { malformed: 0, mode: 0, authenticated: 0, 'not-sent': 0 };

  /** `addresses` are the gateway's, by IP version. */
  constructor(netstack: NtpNetstack, addresses: readonly Address[], clock: WallClock) {
    this.#netstack = netstack;
    this.#addresses = addresses;
    this.#clock = clock;
    for (const address of addresses)
      netstack.listenUdp(address, wire.SERVER_PORT, (datagram) => this.#receive(datagram));
  }

  close(): void {
    for (const address of this.#addresses) this.#netstack.unlistenUdp(address, wire.SERVER_PORT);
  }

  #receive(datagram: UdpDatagram): void {
    const length = gather(datagram.payload, this.#in);
    const request = this.#inView;
    if (length < 0 || wire.check(request, 0, length) !== SOUND) {
      this.drops.malformed++;
      return;
    }
    const version = wire.version(request, 0);
    if (wire.mode(request, 0) !== wire.MODE_CLIENT || version < 1 || version > 4) {
      this.drops.mode++;
      return;
    }
    if (wire.hasMac(request, 0, length)) {
      this.drops.authenticated++;
      return;
    }
    this.#answer(version);
    if (!this.#netstack.sendUdp(datagram, this.#out)) this.drops['not-sent']++;
  }

  #answer(version: number): void {
    const { epochMs, inStep, leap, maxErrorMs, precision } = this.#clock.read();
    const answer = this.#outView;
    wire.emit(answer, 0, {
      leap,
      version,
      mode: wire.MODE_SERVER,
      stratum: inStep ? IN_STEP : FREE_RUNNING,
      poll: this.#inView.getInt8(wire.POLL),
      precision,
    });
    wire.setDuration(answer, wire.ROOT_DELAY, 0);
    wire.setDuration(answer, wire.ROOT_DISPERSION, inStep ? maxErrorMs : 0);
    answer.setUint32(wire.REFERENCE_ID, REFERENCE_ID);
    // When the clock was set last: by who keeps it in step, about now.
    wire.setTimestamp(answer, wire.REFERENCE_TIMESTAMP, epochMs);
    this.#out.set(this.#in.subarray(wire.TRANSMIT_TIMESTAMP, wire.TRANSMIT_TIMESTAMP + 8), wire.ORIGIN_TIMESTAMP);
    wire.setTimestamp(answer, wire.RECEIVE_TIMESTAMP, epochMs);
    wire.setTimestamp(answer, wire.TRANSMIT_TIMESTAMP, epochMs);
  }
}
