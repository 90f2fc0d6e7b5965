// Row order of query and key projections in GGUF files of architecture `llama`.
//
// Problem: transformers rotates the first half of a head against the second, llama.cpp's `llama` graph rotates
// neighbours, so its converter reorders the rows of W_q and W_k (and their biases): within a head of D rows, transformers
// row s·D/2 + i (s = 0, 1) stands at GGUF row 2i + s. Rows are independent in every storage format here, so packed rows
// move whole. Other architectures (qwen2, qwen3, …) keep the order.
// Source: llama.cpp, conversion/llama.py (`permute`).

/**
 * GGUF row r holds transformers row `order[r]`.
 *
 * @param rows rows of the tensor, heads × D; throws a plain Error unless D is even
 * @param heads query heads for W_q, key/value heads for W_k
 */
export function ggufRowOrder(rows: number, heads: number): Uint32Array {
  const dim = rows / heads;
  if (!Number.isInteger(dim) || dim % 2 !== 0) throw new Error(`ggufRowOrder: ${rows} rows for ${heads} heads`);
  const order = new Uint32Array(rows);
  for (let r = 0; r < rows; r++) {
    const within = r % dim;
    order[r] = r - within + (within % 2) * (dim / 2) + (within >> 1);
  }
  return order;
}

/** Bytes with row r taken from row order[r] of the input; every row has the same length. */
export function takeRows(bytes: Uint8Array, order: Uint32Array): Uint8Array {
  const length = bytes.byteLength / order.length;
  const out = new Uint8Array(bytes.byteLength);
  for (let r = 0; r < order.length; r++) {
    const from = (order[r] as number) * length;
    out.set(bytes.subarray(from, from + length), r * length);
  }
  return out;
}

/** The order that undoes `order`: takeRows(takeRows(x, order), inverseOrder(order)) is x. */
export function inverseOrder(order: Uint32Array): Uint32Array {
  const inverse = new Uint32Array(order.length);
  order.forEach((from, r) => {
    inverse[from] = r;
  });
  return inverse;
}
