// Plain tables: columns padded to their widest cell, numbers to the right.

export interface Column {
  title: string;
  align?: 'left' | 'right';
}

/** Lines of a table; `rows[i][j]` is the text of row i, column j. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const width = columns.map((c, j) => Math.max(c.title.length, ...rows.map((r) => (r[j] ?? '').length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, j) => (columns[j].align === 'right' ? cell.padStart(width[j]) : cell.padEnd(width[j])))
      .join('  ')
      .trimEnd();
  const rule = width.map((w) => '─'.repeat(w)).join('──');
  return [line(columns.map((c) => c.title)), rule, ...rows.map((r) => line(columns.map((_, j) => r[j] ?? '')))].join(
    '\n',
  );
}
