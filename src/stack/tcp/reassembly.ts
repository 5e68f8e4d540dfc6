/**
 * Segments that came before their turn. RFC 9293 3.10.7.4 (SHLD-31: keep them). Copied into chunks of the shared pool,
 * one after another, with a sorted list of what lies where; where segments overlap, what came first stays. Everything
 * is inside the window that was offered. Limits: `MAX_CHUNKS` chunks and `MAX_SEGMENTS` segments; beyond them a segment
 * is dropped, and its sender repeats it. What waits is told to the sender in blocks, the newest first: RFC 2018 4.
 */

import type { Chunk, ChunkPool } from '../chunk-pool.ts';
import { CHUNK_OCTETS } from '../chunk-pool.ts';
import type { Fragments } from '../fragment-list.ts';
import type { SackBlocks } from './sack.ts';
import { type Seq, seqAdd, seqGeq, seqGt, seqLeq, seqLt, seqSub } from './seq.ts';

/** As much as the widest window: what is lost at its left edge costs nothing of the rest. */
const MAX_CHUNKS = 64;
const MAX_SEGMENTS = 4096;
/** Blocks that are remembered in the order of their news. */
const MAX_RECENT = 16;

/** A chunk, and how many pieces lie in it. */
interface Shelf {
  readonly chunk: Chunk;
  pieces: number;
}

interface Piece {
  start: Seq;
  octets: number;
  readonly shelf: Shelf;
  offset: number;
}

export class TcpReassembly {
  readonly #pool: ChunkPool;
  readonly #shelves: Shelf[] = [];
  readonly #pieces: Piece[] = [];
  /** A number in each of the blocks that had something new last, newest first. */
  readonly #recent: Seq[] = [];
  /** Octets used of the last shelf. */
  #used = 0;

  constructor(pool: ChunkPool) {
    this.#pool = pool;
  }

  get empty(): boolean {
    return this.#pieces.length === 0;
  }

  /** Pieces that wait. */
  get size(): number {
    return this.#pieces.length;
  }

  /** Keeps `list`'s octets, the first of which is number `start`; false: not all of what was new found room. */
  insert(start: Seq, list: Fragments): boolean {
    let from = start;
    const end = seqAdd(start, list.octets);
    let index = this.#firstAfter(from);
    while (seqLt(from, end)) {
      const next = this.#pieces[index];
      const until = next && seqLt(next.start, end) ? next.start : end;
      if (seqLt(from, until)) {
        const added = this.#add(index, from, seqSub(until, from), list, seqSub(from, start));
        if (added < 0) return false;
        index += added;
      }
      if (until === end) break;
      if (seqGt(this.#end(index), from)) from = this.#end(index);
      index++;
    }
    return true;
  }

  /** What came at `at` is news of its block. */
  note(at: Seq): void {
    const recent = this.#recent;
    const first = this.#firstOf(at);
    if (first < 0) return;
    const left = this.#pieces[first]!.start;
    const right = this.#end(this.#lastOf(first));
    let kept = 0;
    for (const other of recent) if (seqLt(other, left) || seqGeq(other, right)) recent[kept++] = other;
    recent.length = Math.min(kept, MAX_RECENT - 1);
    recent.unshift(at);
  }

  /** Adds blocks to `into` until `most` are there, the newest first but for `skip` of them. */
  blocks(into: SackBlocks, skip: number, most: number): void {
    for (const at of this.#recent) {
      if (into.count >= most) return;
      const first = this.#firstOf(at);
      if (first < 0 || skip-- > 0) continue;
      into.push(this.#pieces[first]!.start, this.#end(this.#lastOf(first)));
    }
  }

  /** Moves what now follows on from `next` to `into`; returns the first number that is missing still. */
  take(next: Seq, into: Fragments): Seq {
    let at = next;
    let count = 0;
    for (const piece of this.#pieces) {
      if (seqGt(piece.start, at)) break;
      count++;
      piece.shelf.pieces--;
      const skip = seqSub(at, piece.start);
      if (skip >= piece.octets) continue;
      into.push(piece.shelf.chunk.arena, piece.offset + skip, piece.octets - skip);
      at = seqAdd(piece.start, piece.octets);
    }
    this.#pieces.splice(0, count);
    return at;
  }

  /** Gives back the memory in which nothing waits. What `take` gave must have been handed over. */
  settle(): void {
    const shelves = this.#shelves;
    const last = shelves[shelves.length - 1];
    let kept = 0;
    for (const shelf of shelves) {
      if (shelf.pieces > 0) shelves[kept++] = shelf;
      else this.#pool.give(shelf.chunk);
    }
    shelves.length = kept;
    // What comes next begins another, where the last one is gone.
    if (last?.pieces === 0) this.#used = CHUNK_OCTETS;
  }

  clear(): void {
    this.#pieces.length = 0;
    this.#recent.length = 0;
    this.#used = 0;
    for (let shelf = this.#shelves.pop(); shelf; shelf = this.#shelves.pop()) this.#pool.give(shelf.chunk);
  }

  /** The first piece that ends after `at`. */
  #firstAfter(at: Seq): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (seqLeq(this.#end(middle), at)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first piece of the run without a gap that `at` lies in; -1: there is none. */
  #firstOf(at: Seq): number {
    const pieces = this.#pieces;
    let index = this.#firstAfter(at);
    if (index === pieces.length || seqGt(pieces[index]!.start, at)) return -1;
    while (index > 0 && this.#end(index - 1) === pieces[index]!.start) index--;
    return index;
  }

  /** The last piece of the run that begins with piece `first`. */
  #lastOf(first: number): number {
    const pieces = this.#pieces;
    let index = first;
    while (index + 1 < pieces.length && this.#end(index) === pieces[index + 1]!.start) index++;
    return index;
  }

  #end(index: number): Seq {
    const piece = this.#pieces[index]!;
    return seqAdd(piece.start, piece.octets);
  }

  /** Copies a gap's worth of `list`, `skip` octets into it, in front of piece `index`; returns the pieces made, -1: no room. */
  #add(index: number, start: Seq, octets: number, list: Fragments, skip: number): number {
    let made = 0;
    let done = 0;
    let before = 0;
    for (let i = 0; i < list.count && done < octets; i++) {
      const { arena, offset, length } = list.items[i]!;
      let within = Math.max(0, skip + done - before);
      while (within < length && done < octets) {
        const room = this.#room();
        if (room === 0 || this.#pieces.length === MAX_SEGMENTS) return -1;
        const count = Math.min(room, length - within, octets - done);
        const shelf = this.#shelves[this.#shelves.length - 1]!;
        const { chunk } = shelf;
        const at = chunk.offset + this.#used;
        chunk.arena.bytes.set(arena.bytes.subarray(offset + within, offset + within + count), at);
        const last = made > 0 ? this.#pieces[index + made - 1] : this.#pieces[index - 1];
        if (
          last &&
          last.shelf === shelf &&
          last.offset + last.octets === at &&
          this.#end(index + made - 1) === seqAdd(start, done)
        ) {
          last.octets += count;
        } else {
          this.#pieces.splice(index + made, 0, { start: seqAdd(start, done), octets: count, shelf, offset: at });
          shelf.pieces++;
          made++;
        }
        this.#used += count;
        done += count;
        within += count;
      }
      before += length;
    }
    return made;
  }

  /** Octets free on the last shelf, after taking another where there is none. */
  #room(): number {
    const { length } = this.#shelves;
    if (length > 0 && this.#used < CHUNK_OCTETS) return CHUNK_OCTETS - this.#used;
    if (length === MAX_CHUNKS || !this.#pool.next(length)) return 0;
    this.#shelves.push({ chunk: this.#pool.take()!, pieces: 0 });
    this.#used = 0;
    return CHUNK_OCTETS;
  }
}
