// transposePacked: codes of 4, 8 or 16 bits and their scales moved to mirrored places.
//
// Thread map: one thread for a word of y's codes. Where rows of y are whole words, neighbouring threads take neighbouring
// rows of y at one place, so that they read neighbouring codes of x; else words are numbered as they lie and gathered
// byte by byte. A second dispatch moves the scales, a word a thread. No workgroup memory, no features.

import { packedRowBytes } from '../../../formats/packing.ts';
import { movableBits } from '../../../graph/ops/transpose-packed.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { mirroredScales } from '../../mirrored-scales.ts';
import { forEachItem } from '../entry.ts';
import {
  type Command,
  type KernelTable,
  type OpKernel,
  type PackedOperand,
  packedOperand,
  read,
  write,
} from '../kernel.ts';

/** byteOf(array offset in bytes) of x. */
const byteSource = (x: string) => `
fn byteOf(at: u32) -> u32 { return (${x}[at >> 2u] >> ((at & 3u) * 8u)) & 255u; }
`;

function moveCodes(x: PackedOperand, y: PackedOperand): Command {
  const [M, K] = x.shape.slice(-2);
  const matrices = elementCount(x.shape.slice(0, -2));
  const bits = movableBits(x.format) ?? 8;
  const [fromRow, toRow] = [packedRowBytes(bits, K), packedRowBytes(bits, M)];
  const perWord = 32 / bits;
  // code (row m, column k) of matrix b
  const code =
    bits === 4
      ? `(byteOf((b * ${M}u + m) * ${fromRow}u + (k >> 1u)) >> ((k & 1u) * 4u)) & 15u`
      : bits === 8
        ? `byteOf((b * ${M}u + m) * ${fromRow}u + k)`
        : `byteOf((b * ${M}u + m) * ${fromRow}u + 2u * k) | (byteOf((b * ${M}u + m) * ${fromRow}u + 2u * k + 1u) << 8u)`;
  const rowsAreWords = toRow % 4 === 0 && M % perWord === 0;
  const words = Math.ceil((matrices * K * toRow) / 4);
  const byRows = (y: string) => `let row = i % ${matrices * K}u;
  let place = i / ${matrices * K}u;
  let b = row / ${K}u;
  let k = row % ${K}u;
  var word = 0u;
  for (var j = 0u; j < ${perWord}u; j++) {
    let m = place * ${perWord}u + j;
    word |= (${code}) << (j * ${bits}u);
  }
  ${y}[row * ${toRow / 4}u + place] = word;`;
  // the codes of one byte: two of 4 bits, one of 8, half of one of 16
  const byte =
    bits === 4
      ? `var m = 2u * column;
      var value = ${code};
      m++;
      if (m < ${M}u) { value |= (${code}) << 4u; }`
      : `let m = column / ${bits / 8}u;
      let value = ((${code}) >> (column % ${bits / 8}u * 8u)) & 255u;`;
  const byBytes = (y: string) => `var word = 0u;
  for (var j = 0u; j < 4u; j++) {
    let at = 4u * i + j;
    let row = at / ${toRow}u;
    if (row < ${matrices * K}u) {
      let column = at % ${toRow}u;
      let b = row / ${K}u;
      let k = row % ${K}u;
      ${byte}
      word |= value << (8u * j);
    }
  }
  ${y}[i] = word;`;
  return {
    bindings: { x: read(x), y: write(y) },
    ...forEachItem(
      words,
      (n) => (rowsAreWords ? byRows(n.y) : byBytes(n.y)),
      (n) => byteSource(n.x),
    ),
  };
}

/** Scales, zero bytes behind them up to a whole word, and the tensor scale. */
function moveScales(x: PackedOperand, y: PackedOperand): Command {
  const { count, rows, cols, size } = mirroredScales(x.format, x.shape);
  const grid = rows * cols;
  const words = Math.ceil((count * grid * size) / 4);
  const body = (from: string, to: string) => `if (i == ${words}u) {
    ${to}[${y.layout.tensorScale / 4}u] = ${from}[${x.layout.tensorScale / 4}u];
    return;
  }
  var word = 0u;
  for (var j = 0u; j < 4u; j++) {
    let at = 4u * i + j;
    let place = at / ${size}u;
    if (place < ${count * grid}u) {
      let b = place / ${Math.max(grid, 1)}u;
      let row = place % ${Math.max(grid, 1)}u / ${Math.max(rows, 1)}u;
      let column = place % ${Math.max(grid, 1)}u % ${Math.max(rows, 1)}u;
      let source = (b * ${grid}u + column * ${cols}u + row) * ${size}u + at % ${size}u;
      word |= byteOf(${x.layout.scales}u + source) << (8u * j);
    }
  }
  ${to}[${y.layout.scales / 4}u + i] = word;`;
  return {
    bindings: { x: read(x), y: write(y) },
    ...forEachItem(
      words + 1,
      (n) => body(n.x, n.y),
      (n) => byteSource(n.x),
    ),
  };
}

const transposePacked: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, y] = [packedOperand(inputs, 0), packedOperand(outputs, 0)];
    return [moveCodes(x, y), moveScales(x, y)];
  },
};

export const transposePackedKernels: KernelTable = { transposePacked };
