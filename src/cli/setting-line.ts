/** A setting's value on one line of text: as it is, or, where it would not come back so, as a JSON string. */

export function lineOf(value: string | number): string {
  const text = String(value);
  const plain = text.trim() === text && !/[\r\n\u2028\u2029]|^"/.test(text);
  return plain ? text : JSON.stringify(text).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}

/** Throws what is wrong with a line that begins as a JSON string. */
export function textOf(line: string): string {
  if (!line.startsWith('"')) return line;
  try {
    return JSON.parse(line) as string;
  } catch {
    throw new Error(`${line} begins with a quotation mark and is no JSON string`);
  }
}
