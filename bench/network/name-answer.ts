/** A name server of one line: whatever is asked for has one address. RFC 1035 4.1 */

const HEADER = 12;
const FLAGS = 2;
const QUESTIONS = 4;
const ANSWERS = 6;
const ADDITIONAL = 10;
/** A pointer to the question's name, type A, class IN, a minute, four octets: 192.0.2.1 (RFC 5737). */
const RECORD = [0xc0, HEADER, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];

/** A query for `label`.example. */
export function queryFor(id: number, label: string): Uint8Array {
  const name = [label, 'example'].map((part) => `${String.fromCharCode(part.length)}${part}`).join('');
  return Uint8Array.from([id >> 8, id & 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...Buffer.from(`${name}\0`), 0, 1, 0, 1]);
}

export const isQuery = (message: Uint8Array): boolean =>
  message.length > HEADER && (message[FLAGS]! & 0x80) === 0 && message[QUESTIONS + 1] === 1;

/** The answer to a query with one question; what follows the question is left out. */
export function answerTo(query: Uint8Array): Uint8Array {
  const end = query.indexOf(0, HEADER) + 5;
  const answer = new Uint8Array(end + RECORD.length);
  answer.set(query.subarray(0, end));
  answer[FLAGS] = 0x81;
  answer[FLAGS + 1] = 0x80;
  answer[ANSWERS + 1] = 1;
  answer[ADDITIONAL + 1] = 0;
  answer.set(RECORD, end);
  return answer;
}
