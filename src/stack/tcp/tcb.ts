/**
 * The transmission control block: what TCP knows about one connection. RFC 9293 3.3.1, with the variables of
 * RFC 5681, 6298, 6582, 7323 and 8985 beside it. Nothing here acts: segment-arrives.ts, send.ts and timeout.ts do.
 */

import type { ChunkPool } from '../chunk-pool.ts';
import type { Drops } from '../drops.ts';
import type { Fragments } from '../fragment-list.ts';
import type { CloseReason, TcpConnection, TcpHandler, TcpState } from '../port.ts';
import type { Sender, SwitchPort } from '../switch-port.ts';
import { Timer, type TimerOwner } from '../timers.ts';
import { DOUBLE_ZERO } from '../wire/double.ts';
import { Flight } from './flight.ts';
import type { TcpReassembly } from './reassembly.ts';
import { INITIAL_RTO_MS } from './rtt.ts';
import { SendQueue } from './send-queue.ts';
import { type Seq, seq } from './seq.ts';

/** What a connection asks of the endpoint it belongs to. */
export interface TcpContext {
  /** The time of the call from below that is under way. */
  readonly nowMs: number;
  readonly pool: ChunkPool;
  readonly drops: Drops;
  /** There may be something to send. */
  ready(c: Tcb): void;
  /** What has come is to be acknowledged when nothing else comes at once, if no answer has done it. */
  acknowledgeWhenQuiet(c: Tcb): void;
  /** The timers' earliest deadline may have come nearer. */
  schedule(c: Tcb): void;
  /** Octets have arrived in order, to be handed over at the end of the batch: returns the list to gather them in. */
  arrived(c: Tcb): Fragments;
  /** The connection is over: everything it holds is given back, its owner told. */
  release(c: Tcb, reason: CloseReason): void;
  /** Both FINs are acknowledged and we sent the first: the owner is told, the tuple stays taken for a while. */
  timeWait(c: Tcb, nowMs: number): void;
  /** Nothing is acknowledged: the guest may have gone, or be behind another MAC address by now. */
  reroute(c: Tcb): void;
  /** Sends RST (with ACK where `ack` is given) from our side of the connection. */
  reset(c: Tcb, sequence: Seq, ack?: Seq): void;
}

export abstract class Tcb implements Sender, TimerOwner {
  readonly context: TcpContext;
  /** Where the guest is. Set before anything is sent. */
  declare port: SwitchPort;
  declare connection: TcpConnection;
  declare handler: TcpHandler;
  state: TcpState = 'CLOSED';
  /** A forwarded SYN that waits for accept or reject. */
  held = false;
  /** We opened it. */
  active = false;

  /** The guest's and the peer's IPv4 address and both ports, as the header wants them. */
  guestWord = 0;
  peerWord = 0;
  portsWord = 0;
  /** Of IPv6: the peer's and the guest's address, four words each, as the header wants them. Undefined: IPv4. */
  ipv6Words: Int32Array | undefined = undefined;
  /** Where the TCP header begins in a frame. */
  tcpAt = 34;
  /** The guest's MAC address, the Ethernet header without its type, and partial sums of what never changes in the others. */
  guestMac = DOUBLE_ZERO;
  ethernet0 = 0;
  ethernet1 = 0;
  ethernet2 = 0;
  ipSum = 0;
  pseudoSum = 0;
  tcpSum = 0;
  identification = 0;

  // Send sequence space.
  /** ISS: initial send sequence number. */
  iss: Seq = seq(0);
  /** SND.UNA: oldest unacknowledged sequence number. */
  sndUna: Seq = seq(0);
  /** SND.NXT: next sequence number to be sent, one beyond the highest ever sent. What is sent again is the flight's. */
  sndNxt: Seq = seq(0);
  /** SND.WND: octets the peer takes beyond SND.UNA, scaled. */
  sndWnd = 0;
  /** SND.WL1, SND.WL2: SEG.SEQ and SEG.ACK of the last window update. */
  sndWl1: Seq = seq(0);
  sndWl2: Seq = seq(0);
  /** MAX.SND.WND: RFC 5961 5.2, RFC 9293 3.8.6.2.1. */
  sndWndMax = 0;
  sndWndShift = 0;
  /** Largest payload of a segment we send: less the options that each has. RFC 9293 3.7.1, RFC 6691. */
  sndMss = 536;

  // Receive sequence space.
  /** IRS: initial receive sequence number. */
  irs: Seq = seq(0);
  /** RCV.NXT: next sequence number expected. */
  rcvNxt: Seq = seq(0);
  /** RCV.NXT + RCV.WND: the right edge offered last; never moves left. */
  rcvAdv: Seq = seq(0);
  /** RCV.NXT as acknowledged last. */
  rcvAcked: Seq = seq(0);
  rcvWndShift = 0;
  /** The most that the window is opened. */
  rcvLimit = 0;
  /** The most the owner ever promised. */
  rcvMost = 0;
  /** What we told the peer that a segment without options may carry. */
  rcvMss = 536;

  // Options: before the handshake what we offer, then what both sides have.
  /** RFC 7323 3.2, Snd.TS.OK. */
  timestamps = false;
  /** RFC 2018 2 */
  sackPermitted = false;
  /** Octets of options in every segment: those of timestamps. */
  optionOctets = 0;
  /** TS.Recent: what is echoed; and when it was taken. RFC 7323 4.3. */
  tsRecent = 0;
  tsRecentAtMs = DOUBLE_ZERO;
  /** What our clock begins with on this tuple; TSval of the segments that are being written. */
  tsOffset = 0;
  tsVal = 0;
  /** Octets that came twice, to be reported once. RFC 2883 4. */
  duplicateLeft: Seq = seq(0);
  duplicateRight: Seq = seq(0);

  // Octets.
  readonly queue: SendQueue;
  /** Made when the first segment comes out of order. */
  reassembly: TcpReassembly | undefined = undefined;
  /** In order, to be handed over at the end of the batch. */
  arriving: Fragments | undefined = undefined;
  /** Our FIN follows the last octet of the queue. */
  finQueued = false;
  /** Our FIN has been sent at least once (SND.NXT covers it). */
  finSent = false;
  finReceived = false;
  /** The owner was refused a place in the queue and is to be told of room. */
  wantsRoom = false;
  /** The queue's limit held the owner back since the limit was set. */
  queueWasFull = false;
  /** The most that the queue's limit grows to. */
  queueMost = 0;

  // Congestion control and loss recovery: congestion.ts, recovery.ts.
  /** What lies between SND.UNA and SND.NXT. */
  readonly flight = new Flight();
  cwnd = 0;
  ssthresh = 0;
  duplicateAcks = 0;
  recovering = false;
  /** RFC 6582's recover. */
  recover: Seq = seq(0);
  /** The first segment that is lost is to be sent again, whatever the windows say. */
  firstDue = false;
  /** The tail of the flight is to be probed for; TLP.end_seq and TLP.is_retrans of the probe, and our clock then. RFC 8985 7 */
  tailDue = false;
  tailEnd: Seq | undefined = undefined;
  tailAgain = false;
  tailTick = 0;
  /** RACK.reo_wnd_mult, RACK.reo_wnd_persist and the number after which it may be raised again. RFC 8985 5.2 */
  reorderSteps = 1;
  reorderPersist = 0;
  reorderRound: Seq = seq(0);
  /** The windows before a recovery (0: none to go back to), our clock then, and octets sent again since. RFC 4015, 3708 */
  undoCwnd = 0;
  undoSsthresh = 0;
  undoTick = 0;
  undoOctets = 0;
  /** No recovery began since the last acknowledgement of something new. */
  undoDecided = true;
  retransmissions = 0;
  /** Timeouts or probes in a row; and those without any answer. */
  backoff = 0;
  unanswered = 0;

  // Round-trip time: rtt.ts.
  srttMs = -1;
  rttvarMs = DOUBLE_ZERO;
  rtoMs: number = INITIAL_RTO_MS;
  /** RACK.min_RTT: of this span of time, since when, and of the one before. */
  leastRttMs: number = Number.POSITIVE_INFINITY;
  leastRttSinceMs = DOUBLE_ZERO;
  leastRttBeforeMs: number = Number.POSITIVE_INFINITY;

  // Output that is due.
  /** SYN, or SYN-ACK. */
  synDue = false;
  /** An acknowledgement, whether or not there is data to carry it. */
  ackDue = false;
  /** It waits until nothing else comes: an answer may carry it. */
  ackPutOff = false;
  /** Duplicates of it: one per segment out of order, for the peer's fast retransmit. */
  extraAcks = 0;
  /** One octet beyond a closed window. RFC 9293 3.8.6.1. */
  probeDue = false;
  keepaliveDue = false;
  /** The exchange is request and answer: the answer will carry the acknowledgement. */
  pingPong = false;
  lastReceivedAtMs = DOUBLE_ZERO;

  // Deadlines; Infinity: none. One timer serves them all.
  readonly timer: Timer;
  /** Retransmission or persist. */
  retransmitAtMs: number = Number.POSITIVE_INFINITY;
  /** A probe for the tail of the flight where `probing`, else the end of patience with what was overtaken. RFC 8985 */
  lossAtMs: number = Number.POSITIVE_INFINITY;
  probing = false;
  /** The delayed acknowledgement. */
  ackAtMs: number = Number.POSITIVE_INFINITY;
  /** The end of TIME-WAIT, or the next keep-alive of FIN-WAIT-2. */
  closeAtMs: number = Number.POSITIVE_INFINITY;
  /** Challenge ACKs: RFC 5961 7. */
  challenges = 0;
  challengesAtMs = DOUBLE_ZERO;

  /** When the guest last acknowledged something new, or there was nothing to acknowledge. */
  progressAtMs = DOUBLE_ZERO;
  octetsToGuest = DOUBLE_ZERO;
  octetsToHost = DOUBLE_ZERO;

  nextReady: Sender | undefined = undefined;
  isReady = false;

  constructor(context: TcpContext, queueLimit: number) {
    this.context = context;
    this.queue = new SendQueue(context.pool, queueLimit);
    this.timer = new Timer(this);
  }

  abstract expired(nowMs: number): void;
}
