/**
 * A query about a name that the user has made an alias of one that is not answered here: that one is asked about instead,
 * and what is said of it becomes the answer, after the aliases.
 */

import { decode, encode } from 'dns-packet';
import { AUTHORITATIVE, aliasRecords, edns } from './local-names.ts';
import { HEADER_OCTETS, LARGEST_MESSAGE, Query } from './message.ts';
import { wireName } from './zones.ts';

export class AliasedQuery {
  /** As the guest asked it. */
  readonly original: Uint8Array;
  readonly #asked: Query;
  readonly #aliases: readonly string[];
  /** The same about the name that the aliases end with. */
  readonly message: Uint8Array;
  readonly query = new Query();

  constructor(original: Uint8Array, asked: Query, aliases: readonly string[], seed: number) {
    this.original = original;
    this.#asked = Object.assign(new Query(), asked);
    this.#aliases = aliases;
    const target = wireName(aliases.at(-1)!);
    this.message = new Uint8Array([
      ...original.subarray(0, HEADER_OCTETS),
      ...target,
      ...original.subarray(asked.nameEnd),
    ]);
    this.query.parse(this.message, this.message.length, seed);
  }

  /** Of what a server said; undefined: that cannot be read. */
  answer(said: Uint8Array): Uint8Array | undefined {
    const into = new Uint8Array(LARGEST_MESSAGE);
    try {
      return into.subarray(0, writeAliased(this.#asked, this.original, into, this.#aliases, said));
    } catch {
      return undefined;
    }
  }
}

/** Writes what a server said of the last of `aliases` as the answer to the query; throws when its records cannot be read. */
function writeAliased(
  query: Query,
  bytes: Uint8Array,
  into: Uint8Array,
  aliases: readonly string[],
  said: Uint8Array,
): number {
  const question = decode(Buffer.from(bytes.subarray(0, query.questionEnd)).fill(0, 6, HEADER_OCTETS)).questions![0]!;
  const { answers = [], authorities = [], flags = 0 } = decode(Buffer.from(said));
  const answer = encode({
    type: 'response',
    id: query.id,
    // What is ours is not the server's to be an authority for, nor to have proven.
    flags: flags & ~AUTHORITATIVE & ~(1 << 5),
    questions: [question],
    answers: [...aliasRecords(question.name, aliases), ...answers],
    authorities,
    additionals: query.hasEdns ? [edns()] : [],
  });
  into.set(answer);
  return answer.length;
}
