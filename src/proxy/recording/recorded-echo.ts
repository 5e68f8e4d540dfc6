/** The host's way to send echo requests, of which everything is kept, and the same out of a recording. */

import type { Address, FragmentList } from '../../stack/port.ts';
import type { HostEchoHandler, HostEchoPort, HostEchoSocket, HostErrorCode } from '../port.ts';
import { OctetSum } from './octet-sum.ts';
import type { Player } from './player.ts';
import type { Recorder } from './recorder.ts';

export class RecordedEcho implements HostEchoPort {
  readonly #host: HostEchoPort;
  readonly #recorder: Recorder;
  #sockets = 0;

  constructor(host: HostEchoPort, recorder: Recorder) {
    this.#host = host;
    this.#recorder = recorder;
  }

  open(family: 4 | 6, handler: HostEchoHandler): HostEchoSocket | HostErrorCode {
    const socket = new RecordedEchoSocket(this.#sockets, this.#recorder, handler);
    const inner = this.#recorder.call('open echo', [family], () => this.#host.open(family, socket));
    this.#recorder.gaveText(typeof inner === 'string' ? inner : '');
    if (typeof inner === 'string') return inner;
    this.#sockets++;
    return socket.use(inner);
  }
}

class RecordedEchoSocket implements HostEchoSocket, HostEchoHandler {
  owner: unknown = undefined;
  readonly #number: number;
  readonly #recorder: Recorder;
  readonly #handler: HostEchoHandler;
  readonly #sum = new OctetSum();
  #socket: HostEchoSocket | undefined;

  constructor(number: number, recorder: Recorder, handler: HostEchoHandler) {
    this.#number = number;
    this.#recorder = recorder;
    this.#handler = handler;
  }

  use(socket: HostEchoSocket): this {
    this.#socket = socket;
    return this;
  }

  replied(_inner: HostEchoSocket, address: Address, sequence: number, payload: Uint8Array): void {
    this.#recorder.event('replied', [this.#number, address, sequence, payload], () =>
      this.#handler.replied(this, address, sequence, payload),
    );
  }

  failed(_inner: HostEchoSocket, address: Address, sequence: number, code: HostErrorCode, payload?: Uint8Array): void {
    const values = [this.#number, address, sequence, code];
    const tell = (): void => this.#handler.failed(this, address, sequence, code, payload);
    if (payload) this.#recorder.event('echo failed with', [...values, payload], tell);
    else this.#recorder.event('echo failed', values, tell);
  }

  expired(_inner: HostEchoSocket, address: Address, sequence: number, router: Address, payload?: Uint8Array): void {
    const values = [this.#number, address, sequence, router];
    const tell = (): void => this.#handler.expired(this, address, sequence, router, payload);
    if (payload) this.#recorder.event('echo expired with', [...values, payload], tell);
    else this.#recorder.event('echo expired', values, tell);
  }

  send(address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    const sum = this.#sum.addAll(payload).take();
    return this.#recorder.callFor('send echo', [this.#number, address, sequence, hopLimit, payload.octets, sum], () =>
      this.#socket!.send(address, sequence, hopLimit, payload),
    );
  }

  close(): void {
    this.#recorder.call('close echo', [this.#number], () => this.#socket!.close());
  }
}

type Payload = Uint8Array | undefined;

export class ReplayedEcho implements HostEchoPort {
  readonly #player: Player;
  readonly #sockets: ReplayedEchoSocket[] = [];

  constructor(player: Player) {
    this.#player = player;
    player.on('replied', (values) => {
      const told = this.#sockets[values.socket as number];
      const { address, sequence, payload } = values;
      told?.handler.replied(told, address as Address, sequence as number, payload as Uint8Array);
    });
    for (const name of ['echo failed', 'echo failed with'] as const)
      player.on(name, (values) => {
        const told = this.#sockets[values.socket as number];
        const { address, sequence, code, payload } = values;
        told?.handler.failed(told, address as Address, sequence as number, String(code), payload as Payload);
      });
    for (const name of ['echo expired', 'echo expired with'] as const)
      player.on(name, (values) => {
        const told = this.#sockets[values.socket as number];
        const { address, sequence, router, payload } = values;
        told?.handler.expired(told, address as Address, sequence as number, router as Address, payload as Payload);
      });
  }

  open(family: 4 | 6, handler: HostEchoHandler): HostEchoSocket | HostErrorCode {
    const refused = this.#player.askText('open echo', family);
    if (refused !== '') return refused;
    const socket = new ReplayedEchoSocket(this.#sockets.length, this.#player, handler);
    this.#sockets.push(socket);
    return socket;
  }
}

class ReplayedEchoSocket implements HostEchoSocket {
  owner: unknown = undefined;
  readonly #number: number;
  readonly #player: Player;
  readonly #sum = new OctetSum();
  readonly handler: HostEchoHandler;

  constructor(number: number, player: Player, handler: HostEchoHandler) {
    this.#number = number;
    this.#player = player;
    this.handler = handler;
  }

  send(address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    const sum = this.#sum.addAll(payload).take();
    return this.#player.ask(0, 'send echo', this.#number, address, sequence, hopLimit, payload.octets, sum) === 1;
  }

  close(): void {
    this.#player.call('close echo', this.#number);
  }
}
