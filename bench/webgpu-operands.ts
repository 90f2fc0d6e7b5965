// Random operands of matrix products on the GPU, with their values at hand for checking.

import type { Bench } from './webgpu-gpu.ts';

export interface Operand {
  readonly buffers: readonly GPUBuffer[];
  /** Value at a row of M or N and a place along K. */
  at(outer: number, k: number): number;
  /** Values times 2^reference are the numbers meant. */
  readonly reference: number;
}

/** A small linear congruential generator: the same data in every run. */
function bits(seed: number): () => number {
  let state = (seed * 2654435761) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

/** Magnitudes from 1/16 to 1, both signs. */
export function float16Operand(
  bench: Bench,
  outer: number,
  k: number,
  contiguous: 'k' | 'outer',
  seed: number,
): Operand {
  const next = bits(seed);
  const data = new Uint16Array(outer * k);
  for (let i = 0; i < data.length; i++) {
    const r = next();
    data[i] = ((r >>> 16) & 0x8000) | (0x2c00 + ((r >>> 12) & 0xfff));
  }
  const value = (h: number) => (h & 0x8000 ? -1 : 1) * 2 ** (((h >> 10) & 31) - 15) * (1 + (h & 1023) / 1024);
  return {
    buffers: [bench.buffer(data)],
    at: (o, i) => value(contiguous === 'k' ? data[o * k + i] : data[i * outer + o]),
    reference: 0,
  };
}

const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** Codes of all kinds; scales between 2^-4 and 2^3. */
export function mxfp4Operand(bench: Bench, outer: number, k: number, seed: number): Operand {
  const next = bits(seed);
  const codes = new Uint32Array((outer * k) / 8).map(() => next() ^ (next() >>> 16));
  const scales = new Uint8Array((outer * k) / 32).map(() => 127 - 4 + (next() >>> 29));
  const reference = 127;
  return {
    buffers: [bench.buffer(codes), bench.buffer(scales)],
    at(o, i) {
      const n = o * k + i;
      const code = (codes[n >> 3] >>> (4 * (n & 7))) & 15;
      return (code & 8 ? -1 : 1) * e2m1[code & 7] * 2 ** (scales[n >> 5] - reference);
    },
    reference: 0,
  };
}

/** Two-level scales: E4M3 between 2^-3 and 2^4, then the tensor's, 1/2, behind them. */
export function nvfp4Operand(bench: Bench, outer: number, k: number, seed: number): Operand {
  const next = bits(seed);
  const codes = new Uint32Array((outer * k) / 8).map(() => next() ^ (next() >>> 16));
  const scales = new Uint8Array((outer * k) / 16 + 4).map(() => 0x20 + (next() >>> 26));
  scales.set(new Uint8Array(Float32Array.of(1 / 2).buffer), (outer * k) / 16);
  const e4m3 = (c: number) => 2 ** ((c >> 3) - 7) * (1 + (c & 7) / 8);
  return {
    buffers: [bench.buffer(codes), bench.buffer(scales)],
    at(o, i) {
      const n = o * k + i;
      const code = (codes[n >> 3] >>> (4 * (n & 7))) & 15;
      return ((code & 8 ? -1 : 1) * e2m1[code & 7] * e4m3(scales[n >> 4])) / 2;
    },
    reference: 0,
  };
}

/** `rounded`: as kernels see it that round the product of code and scale to f16. */
export function int4Operand(bench: Bench, outer: number, k: number, seed: number, rounded = true): Operand {
  const next = bits(seed);
  const codes = new Uint32Array((outer * k) / 8).map(() => next() ^ (next() >>> 16));
  const scales = new Uint16Array((outer * k) / 128).map(() => 0x2c00 + (next() >>> 22));
  const half = (h: number) => 2 ** ((h >> 10) - 15) * (1 + (h & 1023) / 1024);
  return {
    buffers: [bench.buffer(codes), bench.buffer(scales)],
    at(o, i) {
      const n = o * k + i;
      const code = (codes[n >> 3] >>> (4 * (n & 7))) & 15;
      const value = ((code ^ 8) - 8) * half(scales[n >> 7]);
      return rounded ? roundHalf(value) : value;
    },
    reference: 0,
  };
}

function roundHalf(x: number): number {
  if (x === 0) return 0;
  const step = 2 ** (Math.floor(Math.log2(Math.abs(x))) - 10);
  const q = x / step;
  const low = Math.floor(q);
  const rest = q - low;
  return (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low) * step;
}

export function int8Operand(bench: Bench, outer: number, k: number, seed: number): Operand {
  const next = bits(seed);
  const data = new Int8Array(outer * k).map(() => (next() >>> 24) - 128);
  return { buffers: [bench.buffer(data)], at: (o, i) => data[o * k + i], reference: 0 };
}

/** Distance of `found` from the sum of products in float64, relative to the root of the sum of their squares. */
export function sumError(found: number, count: number, product: (k: number) => number): number {
  let [sum, squares] = [0, 0];
  for (let k = 0; k < count; k++) {
    const p = product(k);
    sum += p;
    squares += p * p;
  }
  return Math.abs(found - sum) / Math.sqrt(squares);
}
