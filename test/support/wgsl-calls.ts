// Calls in WGSL texts, for tests that rewrite kernels.

export interface WgslCall {
  readonly template: string;
  readonly args: readonly string[];
  /** The text before the call. */
  readonly before: string;
}

/** Arguments of the call whose parenthesis opens at `open`, and where the text goes on. */
function argumentsAt(code: string, open: number): { args: string[]; end: number } {
  const args: string[] = [];
  let depth = 0;
  let start = open + 1;
  for (let at = open; at < code.length; at++) {
    const c = code[at];
    if ('([{'.includes(c)) depth++;
    else if (')]}'.includes(c)) depth--;
    if (depth > 1 || (depth === 1 && c !== ',')) continue;
    if (at > open) args.push(code.slice(start, at).trim());
    start = at + 1;
    if (depth === 0) return { args, end: at + 1 };
  }
  throw new Error(`a call that does not end: ${code.slice(open, open + 60)}`);
}

/**
 * The text with every call of `name` replaced by what `of` makes of it. Calls in arguments of calls of the same name are
 * left; template lists may hold no parentheses, arguments no template lists with commas.
 */
export function replaceCalls(code: string, name: string, of: (call: WgslCall) => string): string {
  const pattern = new RegExp(`\\b${name}(?:<([^()]*)>)?\\(`, 'g');
  let text = '';
  let done = 0;
  for (let found = pattern.exec(code); found; found = pattern.exec(code)) {
    const { args, end } = argumentsAt(code, pattern.lastIndex - 1);
    text += code.slice(done, found.index) + of({ template: found[1] ?? '', args, before: code.slice(0, found.index) });
    done = pattern.lastIndex = end;
  }
  return text + code.slice(done);
}
