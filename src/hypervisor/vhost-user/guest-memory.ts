/**
 * The guest's RAM: the regions of the front end's memory table, each a mapped stretch of a shared memory file. Guest
 * addresses come from the guest and are believed in nothing: `translate` yields only stretches inside a region.
 *
 * Views of a region must not outlive it: `close` unmaps. Devices therefore finish with a descriptor chain in the call
 * that popped it.
 */

import fs from 'node:fs';
import { viewOf } from '../../native/memory.ts';
import { codeOf, mmapShared, munmap } from '../../native/system-calls.ts';

/** A mapped stretch of guest memory; an arena of frames and packets (`bytes` and `view` cover it whole). */
export interface MemoryRegion {
  readonly guestAddress: number;
  readonly octets: number;
  /** Where the front end has it mapped: ring addresses are given in these terms. */
  readonly frontEndAddress: number;
  /** Where it is mapped here. */
  readonly hostAddress: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export interface RegionSpec {
  readonly guestAddress: number;
  readonly octets: number;
  readonly frontEndAddress: number;
  readonly fileOffset: number;
  readonly fd: number;
}

/** A stretch of guest memory, reused by its owner. */
export interface GuestFragment {
  region: MemoryRegion;
  offset: number;
  length: number;
}

interface Mapping {
  readonly region: MemoryRegion;
  readonly address: number;
  readonly octets: number;
}

export class GuestMemory {
  readonly #mappings: Mapping[] = [];

  /** Maps the regions; throws an Error (and leaves nothing mapped) when one cannot be. Does not close the descriptors. */
  constructor(specs: readonly RegionSpec[]) {
    try {
      for (const spec of specs) this.#mappings.push(mapRegion(spec));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get regions(): readonly MemoryRegion[] {
    return this.#mappings.map((mapping) => mapping.region);
  }

  /** The region that holds a guest address, or undefined. */
  find(guestAddress: number): MemoryRegion | undefined {
    for (const { region } of this.#mappings)
      if (guestAddress >= region.guestAddress && guestAddress - region.guestAddress < region.octets) return region;
    return undefined;
  }

  /** The one region that holds all of [address, address + octets) in the front end's terms, or undefined. */
  findFrontEnd(address: number, octets: number): MemoryRegion | undefined {
    for (const { region } of this.#mappings) {
      const offset = address - region.frontEndAddress;
      if (offset >= 0 && offset + octets <= region.octets) return region;
    }
    return undefined;
  }

  /** Unmaps. Nothing may touch a view of a region afterwards. */
  close(): void {
    for (const mapping of this.#mappings.splice(0)) munmap(mapping.address, mapping.octets);
  }
}

function mapRegion(spec: RegionSpec): Mapping {
  if (!(spec.octets > 0) || !Number.isSafeInteger(spec.guestAddress + spec.octets))
    throw new Error(`memory region of ${spec.octets} octets at ${spec.guestAddress}`);
  // A mapping beyond the file's end would raise SIGBUS when touched.
  const fileOctets = fs.fstatSync(spec.fd).size;
  const octets = spec.fileOffset + spec.octets;
  if (octets > fileOctets) throw new Error(`memory region ends at ${octets}, its file at ${fileOctets}`);
  // Mapped from the file's start: the offset may be off a page boundary for huge pages.
  const address = mmapShared(spec.fd, octets, 0);
  if (address < 0) throw new Error(`cannot map ${octets} octets of guest memory: ${codeOf(address)}`);
  const buffer = viewOf(address + spec.fileOffset, spec.octets);
  return {
    address,
    octets,
    region: {
      guestAddress: spec.guestAddress,
      octets: spec.octets,
      frontEndAddress: spec.frontEndAddress,
      hostAddress: address + spec.fileOffset,
      bytes: new Uint8Array(buffer),
      view: new DataView(buffer),
    },
  };
}
