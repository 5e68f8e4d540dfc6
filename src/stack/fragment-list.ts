/** The stack's own `FragmentList`: it grows to the largest run it ever held and is filled again and again. */

import type { Arena, Fragment, FragmentList } from './port.ts';

export class Fragments implements FragmentList {
  readonly items: Fragment[] = [];
  count = 0;
  octets = 0;

  clear(): void {
    this.count = 0;
    this.octets = 0;
  }

  push(arena: Arena, offset: number, length: number): void {
    const fragment = this.items[this.count];
    if (fragment) {
      fragment.arena = arena;
      fragment.offset = offset;
      fragment.length = length;
    } else this.items.push({ arena, offset, length });
    this.count++;
    this.octets += length;
  }
}
