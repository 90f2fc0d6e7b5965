// Duplicate keys in JSON text, which JSON.parse drops without a word.

/**
 * The first key that stands twice in one object of `text`, or undefined. `text` must have passed JSON.parse: this
 * scanner only follows strings and brackets.
 *
 * @example findDuplicateKey('{"a":1,"a":2}') === 'a'
 */
export function findDuplicateKey(text: string): string | undefined {
  // One entry for each open bracket: the keys of an object, undefined for an array.
  const open: (Set<string> | undefined)[] = [];
  let last: string | undefined;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: {
        const end = stringEnd(text, i);
        last = text.slice(i, end + 1);
        i = end;
        break;
      }
      case 0x3a: {
        const key = JSON.parse(last!) as string;
        const keys = open[open.length - 1]!;
        if (keys.has(key)) return key;
        keys.add(key);
        break;
      }
      case 0x7b:
        open.push(new Set());
        break;
      case 0x5b:
        open.push(undefined);
        break;
      case 0x7d:
      case 0x5d:
        open.pop();
        break;
    }
  }
  return undefined;
}

/** Index of the quote that closes the string opened at `start`. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; ; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x5c) i++;
    else if (c === 0x22) return i;
  }
}
