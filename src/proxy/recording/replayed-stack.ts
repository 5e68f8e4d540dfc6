/**
 * A bare stack, as tests have it, out of a recording: its owner, who stood beyond forwarder and handlers, is the
 * recording's. What the stack was asked by its owner are its own methods, by their names.
 */

import { Netstack, type NetstackOptions } from '../../stack/netstack.ts';
import type {
  CloseReason,
  Endpoints,
  FragmentList,
  TcpConnection,
  TcpHandler,
  UdpDatagram,
  Undelivered,
} from '../../stack/port.ts';
import { SingleFragment } from '../fragment-list.ts';
import { OctetSum } from './octet-sum.ts';
import type { Player } from './player.ts';
import type { Replayed } from './replay.ts';
import { type LinkDescription, playLinks, ReplayedLink } from './replayed-link.ts';

/** What a stack is made of, without what is handed over to be called. */
export type StackDescription = Omit<NetstackOptions, 'clock' | 'random' | 'forwarder' | 'memory' | 'wake'>;

/** Connections by their numbers, in the order in which they were seen first. */
export class ConnectionNumbers {
  readonly connections: TcpConnection[] = [];
  readonly #numbers = new Map<TcpConnection, number>();

  of(connection: TcpConnection): number {
    let number = this.#numbers.get(connection);
    if (number === undefined) {
      number = this.connections.push(connection) - 1;
      this.#numbers.set(connection, number);
    }
    return number;
  }
}

/** Who a datagram or an echo request is from and for, as plain data. */
export function endpointsOf(of: Endpoints & { readonly identifier?: number; readonly sequence?: number }): object {
  const { guestAddress, guestPort, peerAddress, peerPort, ingress, identifier, sequence } = of;
  return { guestAddress, guestPort, peerAddress, peerPort, ingress, identifier, sequence };
}

/** What is kept of octets that a stack hands over. */
export const handedOver = (payload: FragmentList): object => ({
  octets: payload.octets,
  sum: new OctetSum().addAll(payload).take(),
});

/** Methods that an owner may call, and which of their arguments are to be called in turn. */
type Asked = (stack: Netstack, argument: readonly never[]) => void;

export function replayedStack(player: Player, description: StackDescription): Replayed {
  const numbers = new ConnectionNumbers();
  const links: ReplayedLink[] = [];
  const tell = (name: string, argument: object): void => player.call('tells', name, argument);
  const connectionIs = (name: string) => (connection: TcpConnection) =>
    tell(name, { connection: numbers.of(connection) });
  const datagramFor =
    (name: string) =>
    (datagram: UdpDatagram): void =>
      tell(name, { ...endpointsOf(datagram), ...handedOver(datagram.payload) });
  const handler: TcpHandler = {
    established: connectionIs('established'),
    room: (connection) => player.ask(0, 'tells', 'room', { connection: numbers.of(connection) }),
    received: (connection, octets) => {
      const argument = { connection: numbers.of(connection), ...handedOver(octets) };
      return player.ask(octets.octets, 'tells', 'received', argument);
    },
    receivedEnd: connectionIs('receivedEnd'),
    writable: connectionIs('writable'),
    closed: (connection, reason: CloseReason) => tell('closed', { connection: numbers.of(connection), reason }),
  };
  const stack = new Netstack({
    ...description,
    clock: player.clock,
    random: player.random,
    forwarder: {
      tcp: connectionIs('tcp'),
      tcpGone: connectionIs('tcpGone'),
      udp: datagramFor('udp'),
      echo: (request) => tell('echo', { ...endpointsOf(request), ...handedOver(request.payload) }),
    },
  });
  /** The places that were reserved last. */
  let places: FragmentList | undefined;
  /** False: there is no such thing to tell it. */
  const tellConnection = (told: TcpConnection, name: string, argument: unknown): boolean => {
    if (name === 'accept') told.accept(handler);
    else if (name === 'reject') told.reject(argument as Parameters<TcpConnection['reject']>[0]);
    else if (name === 'reserveSend') told.reserveSend();
    else if (name === 'reserveSendList') places = told.reserveSendList();
    else if (name === 'commitSend') commit(told, argument as Uint8Array);
    else if (name === 'commitSendList') told.commitSend(scatter(argument as Uint8Array, places));
    else if (name === 'end') told.end();
    else if (name === 'abort') told.abort();
    else if (name === 'roomGrew') told.roomGrew();
    else return false;
    return true;
  };
  playLinks(player, links);
  player.on('polled', (values) => stack.poll(player.clock.nowMs(), values.budget as number));
  player.on('connection is told', ({ connection, name, argument }) => {
    const told = numbers.connections[connection as number];
    if (!told || !tellConnection(told, String(name), argument))
      player.failed(`a connection that cannot be told '${name}'`);
  });
  const asked: Readonly<Record<string, Asked>> = {
    detach: (to, [ingress]) => to.detach(ingress!),
    connect: (to, [endpoints]) => void numbers.of(to.connect(endpoints!, handler)),
    listenTcp: (to, [address, port]) => to.listenTcp(address!, port!, connectionIs('accept')),
    listenUdp: (to, [address, port]) => to.listenUdp(address!, port!, datagramFor('datagram')),
    unlistenTcp: (to, [address, port]) => to.unlistenTcp(address!, port!),
    unlistenUdp: (to, [address, port]) => to.unlistenUdp(address!, port!),
    sendUdp: (to, [endpoints, payload, options]) => void to.sendUdp(endpoints!, payload!, options ?? undefined),
    sendEchoReply: (to, [request, payload]) => void to.sendEchoReply(request!, payload!),
    sendUnreachable: (to, [kind, about, mtu]) => void to.sendUnreachable(kind!, undelivered(about!), mtu ?? undefined),
    sendTimeExceeded: (to, [about, router]) => void to.sendTimeExceeded(undelivered(about!), router!),
    pinNeighbor: (to, [address, ingress, macAddress]) => to.pinNeighbor(address!, ingress!, macAddress!),
    unpinNeighbor: (to, [address]) => to.unpinNeighbor(address!),
    route: (to, [network, prefix, via]) => to.route(network!, prefix!, via!),
  };
  return {
    request: (name, argument) => {
      if (name === 'attach') {
        const link = new ReplayedLink(argument as LinkDescription, links.length, player);
        links.push(link);
        stack.attach(link);
      } else if (Object.hasOwn(asked, name)) asked[name]!(stack, argument as readonly never[]);
      else player.failed(`a stack that cannot be asked to '${name}'`);
    },
  };
}

/** What an error is about, with its payload as octets. */
function undelivered({ payload, ...about }: Endpoints & { readonly payload?: Uint8Array }): Undelivered {
  return { ...about, payload: payload && new SingleFragment(payload) };
}

/** Fills the place that was reserved before. */
function commit(connection: TcpConnection, octets: Uint8Array): void {
  const { sendArena, sendOffset, sendLength } = connection;
  sendArena.bytes.set(octets.subarray(0, sendLength), sendOffset);
  connection.commitSend(Math.min(octets.length, sendLength));
}

/** Fills several; how many octets they took. */
function scatter(octets: Uint8Array, places: FragmentList | undefined): number {
  let done = 0;
  for (let i = 0; places && i < places.count && done < octets.length; i++) {
    const { arena, offset, length } = places.items[i]!;
    const part = octets.subarray(done, done + length);
    arena.bytes.set(part, offset);
    done += part.length;
  }
  return done;
}
