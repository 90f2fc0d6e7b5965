// CSV as RFC 4180 has it (quoted cells, doubled quotes, CRLF), plus comment lines that start with #.

export interface CsvRecord {
  /** Line of the file where the record starts, from 1. */
  line: number;
  cells: string[];
}

/** All records of the text, the header among them; blank and comment lines are skipped. */
export function parseCsv(text: string): CsvRecord[] {
  const records: CsvRecord[] = [];
  let line = 1;
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  while (at < text.length) {
    const start = line;
    if (text[at] === '#') {
      const end = text.indexOf('\n', at);
      at = end < 0 ? text.length : end + 1;
      line++;
      continue;
    }
    const cells: string[] = [];
    for (;;) {
      let cell = '';
      if (text[at] === '"') {
        for (at++; at < text.length; at++) {
          if (text[at] !== '"') cell += text[at];
          else if (text[at + 1] === '"') cell += text[at++];
          else break;
          if (text[at] === '\n') line++;
        }
        at++;
      }
      const from = at;
      while (at < text.length && text[at] !== ',' && text[at] !== '\n') at++;
      cells.push(cell + text.slice(from, at).replace(/\r$/, ''));
      if (text[at++] !== ',') break;
    }
    line++;
    if (cells.length > 1 || cells[0]!.trim() !== '') records.push({ line: start, cells });
  }
  return records;
}
