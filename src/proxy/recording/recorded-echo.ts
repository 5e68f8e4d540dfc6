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

  failed(_inner: HostEchoSocket, address: Address, sequence: number, code: HostErrorCode): void {
    this.#recorder.event('echo failed', [this.#number, address, sequence, code], () =>
      this.#handler.failed(this, address, sequence, code),
    );
  }

  expired(_inner: HostEchoSocket, address: Address, sequence: number, router: Address): void {
    this.#recorder.event('echo expired', [this.#number, address, sequence, router], () =>
      this.#handler.expired(this, address, sequence, router),
    );
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
    player.on('echo failed', (values) => {
      const told = this.#sockets[values.socket as number];
      const { address, sequence, code } = values;
      told?.handler.failed(told, address as Address, sequence as number, String(code));
    });
    player.on('echo expired', (values) => {
      const told = this.#sockets[values.socket as number];
      const { address, sequence, router } = values;
      told?.handler.expired(told, address as Address, sequence as number, router as Address);
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
