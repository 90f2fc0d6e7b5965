// WGSL for walking strided layouts: from the number of an element to its place in each layout.

/**
 * Statements that set `NAME0`, `NAME1`, … (one for each layout) to the offset of element `index`, from the rows of
 * mergeDimensions (size, then the stride in each layout, outermost first).
 */
export function offsetStatements(rows: readonly (readonly number[])[], index: string, name: string): string {
  const layouts = rows[0].length - 1;
  const terms: string[][] = Array.from({ length: layouts }, () => []);
  const lines: string[] = [];
  let rest = index;
  for (let d = rows.length - 1; d >= 0; d--) {
    const [size, ...strides] = rows[d];
    const coordinate = d > 0 ? `${name}At${d}` : rest;
    if (d > 0) {
      lines.push(`let ${coordinate} = ${rest} % ${size}u;`, `let ${name}Rest${d} = ${rest} / ${size}u;`);
      rest = `${name}Rest${d}`;
    }
    strides.forEach((stride, j) => {
      if (stride !== 0) terms[j].push(stride === 1 ? coordinate : `${coordinate} * ${stride}u`);
    });
  }
  const offsets = terms.map((sum, j) => `let ${name}${j} = ${sum.length > 0 ? sum.join(' + ') : '0u'};`);
  return [...lines, ...offsets].join('\n  ');
}
