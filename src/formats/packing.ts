// Dense packing of b-bit codes, 1 ≤ b ≤ 8: code i of a row takes bits i·b … i·b + b − 1 of the row's bit stream, the
// lowest bits of a byte first (4-bit: low nibble first). This is the order of ONNX, MLX and of safetensors' F4 and F6.
// Each row is padded with zero bits to a whole byte.

/** Bytes of one packed row. */
export function packedRowBytes(bits: number, cols: number): number {
  return Math.ceil((cols * bits) / 8);
}

/** Packs codes [rows, cols], one a byte, into rows of `packedRowBytes(bits, cols)`. */
export function packCodes(codes: Uint8Array, rows: number, cols: number, bits: number): Uint8Array {
  if (bits === 8) return codes.slice(0, rows * cols);
  const rowBytes = packedRowBytes(bits, cols);
  const out = new Uint8Array(rows * rowBytes);
  for (let r = 0; r < rows; r++) {
    let word = 0;
    let held = 0;
    let at = r * rowBytes;
    for (let c = 0; c < cols; c++) {
      word |= codes[r * cols + c]! << held;
      held += bits;
      if (held >= 8) {
        out[at++] = word;
        word >>>= 8;
        held -= 8;
      }
    }
    if (held > 0) out[at] = word;
  }
  return out;
}

/** Unpacks `count` rows from row `first` on, one code a byte, into `out` [count, cols]. */
export function unpackRows(
  packed: Uint8Array,
  cols: number,
  bits: number,
  first: number,
  count: number,
  out = new Uint8Array(count * cols),
): Uint8Array {
  const rowBytes = packedRowBytes(bits, cols);
  const mask = (1 << bits) - 1;
  for (let r = 0; r < count; r++) {
    let at = (first + r) * rowBytes;
    let word = 0;
    let held = 0;
    for (let c = 0; c < cols; c++) {
      if (held < bits) {
        word |= packed[at++]! << held;
        held += 8;
      }
      out[r * cols + c] = word & mask;
      word >>>= bits;
      held -= bits;
    }
  }
  return out;
}
