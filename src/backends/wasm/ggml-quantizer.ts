// Fast ggml quantizers: the WebAssembly kernels of kernels/ggml with the bytes of src/formats/ggml.
//
// Rows go through the module's memory in chunks of a few MiB; each thread of the pool takes its share of a chunk. A
// kernel leaves blocks alone whose numbers are degenerate (near the ends of the f32 range, scales that round to zero):
// those, and types without a kernel, are encoded by the definition in the calling thread. Input may be the stored
// bytes of bf16 or f16 tensors; they are widened inside the kernel.

import { userError } from '../../errors.ts';
import { bf16ToF32, f16ToF32 } from '../../formats/bits.ts';
import type { GgmlTypeName } from '../../formats/format.ts';
import { encodeGgmlRows } from '../../formats/ggml/quantize.ts';
import { ggmlRowBytes, ggmlType } from '../../formats/ggml/types.ts';
import { logarithmThresholds } from './ggml-quantizer-tables.ts';
import { createPool, type PoolOptions } from './pool.ts';

/** Row-major values as stored: little-endian bytes of f32, f16 or bf16. */
export interface StoredValues {
  dtype: 'f32' | 'f16' | 'bf16';
  bytes: Uint8Array;
}

export interface GgmlQuantizer {
  readonly threads: number;
  /**
   * Encode rows start … start+count of a matrix with `cols` columns.
   * @param importance cols non-negative weights; see quantizeGgml.
   * @param out where to write (count rows); made when missing.
   * @throws SubbyteError (user) when cols is no multiple of the block or a length does not fit.
   * @example quantizer.quantize('q4_k', { dtype: 'bf16', bytes }, 4096, 0, 1024)
   */
  quantize(
    type: GgmlTypeName,
    source: StoredValues,
    cols: number,
    start: number,
    count: number,
    importance?: Float32Array,
    out?: Uint8Array,
  ): Uint8Array;
  /** Ends the pool's threads. */
  dispose(): void;
}

/**
 * Types with a kernel, and what importance weights change: nothing, a block by its own values, or a block by the spread
 * of its whole row.
 */
const kernels: Partial<Record<GgmlTypeName, { weighted: 'ignored' | 'block' | 'row' }>> = {
  q4_0: { weighted: 'row' },
  q4_1: { weighted: 'row' },
  q5_0: { weighted: 'row' },
  q5_1: { weighted: 'row' },
  q8_0: { weighted: 'ignored' },
  q2_k: { weighted: 'block' },
  q3_k: { weighted: 'block' },
  q4_k: { weighted: 'block' },
  q5_k: { weighted: 'block' },
  q6_k: { weighted: 'block' },
  iq4_nl: { weighted: 'block' },
  iq4_xs: { weighted: 'block' },
  'ggml-mxfp4': { weighted: 'ignored' },
  'ggml-nvfp4': { weighted: 'ignored' },
};

/** Whether a type is encoded by a kernel; others take the definition in the calling thread. */
export const hasGgmlKernel = (type: GgmlTypeName): boolean => type in kernels;

const dtypeNumbers = { f32: 0, f16: 1, bf16: 2 };
/** Values of one chunk: with its codes it stays in the L2 cache of the cores. */
const chunkValues = 1 << 18;
const scratchBytes = 32768;

function lengthError(op: string, what: string, got: number, expected: number) {
  return userError({ code: 'ggml-length', op, problem: `${what} does not fit the matrix`, got, expected });
}

/** Float32 copy of `count` stored values from `start`. */
function widen(source: StoredValues, start: number, count: number): Float32Array {
  const width = source.dtype === 'f32' ? 4 : 2;
  const copy = source.bytes.slice(start * width, (start + count) * width);
  if (width === 4) return new Float32Array(copy.buffer);
  const codes = new Uint16Array(copy.buffer);
  return source.dtype === 'f16' ? f16ToF32(codes) : bf16ToF32(codes);
}

/**
 * Starts a quantizer with its own pool of threads.
 * @param options.threads default: all cores. With 1 thread nothing but the caller runs.
 * @throws SubbyteError (device) when the engine lacks WebAssembly SIMD or the kernels were not built.
 */
export async function createGgmlQuantizer(options: PoolOptions = {}): Promise<GgmlQuantizer> {
  const pool = await createPool('ggml', options);
  const { allocator, memory } = pool;
  const table = allocator.allocate(1024, 'a table');
  new Uint32Array(memory.buffer, table, 256).set(logarithmThresholds());
  const scratch = allocator.allocate(pool.threads * scratchBytes, 'quantizer scratch');
  const buffers = new Map<string, { address: number; bytes: number }>();

  /** A buffer that grows and is kept between calls. */
  const buffer = (name: string, bytes: number): number => {
    const old = buffers.get(name);
    if (old && old.bytes >= bytes) return old.address;
    if (old) allocator.free(old.address);
    const address = allocator.allocate(bytes, name);
    buffers.set(name, { address, bytes });
    return address;
  };

  /** Encodes consecutive values (a whole number of blocks), as one matrix [rows, cols]. */
  const encodeChunk = (
    type: GgmlTypeName,
    source: StoredValues,
    start: number,
    rows: number,
    cols: number,
    importance: Float32Array | undefined,
    out: Uint8Array,
  ): void => {
    const { id, block, bytes } = ggmlType(type);
    const width = source.dtype === 'f32' ? 4 : 2;
    const values = rows * cols;
    const blocks = values / block;
    const input = buffer('quantizer input', chunkBytesFor(values, width));
    const output = buffer('quantizer output', blocks * bytes);
    const flags = buffer('quantizer flags', blocks);
    const weights = importance ? buffer('importance weights', cols * 4) : 0;
    const view = new Uint8Array(memory.buffer);
    view.set(source.bytes.subarray(start * width, (start + values) * width), input);
    view.fill(0, flags, flags + blocks);
    if (importance) new Float32Array(memory.buffer, weights, cols).set(importance);
    const dtype = dtypeNumbers[source.dtype];
    pool.run('quantize', id, input, dtype, rows, cols, block, bytes, output, weights, flags, table, scratch);
    out.set(view.subarray(output, output + blocks * bytes));
    const left = view.subarray(flags, flags + blocks);
    // What the definition encodes at once: a block, or all of its row.
    const unit = importance && kernels[type]?.weighted === 'row' ? cols / block : 1;
    for (let b = left.indexOf(1); b >= 0; b = left.indexOf(1, b + unit)) {
      b -= b % unit;
      const column = (b * block) % cols;
      encodeGgmlRows(
        type,
        widen(source, start + b * block, unit * block),
        unit * block,
        0,
        1,
        out.subarray(b * bytes, (b + unit) * bytes),
        importance?.subarray(column, column + unit * block),
      );
    }
  };

  const quantize: GgmlQuantizer['quantize'] = (type, source, cols, start, count, importance, out) => {
    const rowBytes = ggmlRowBytes(type, cols);
    const width = source.dtype === 'f32' ? 4 : 2;
    for (const n of [start, count]) {
      if (!Number.isSafeInteger(n) || n < 0) throw lengthError(type, 'the row range', n, count);
    }
    const needed = (start + count) * cols * width;
    if (source.bytes.length < needed) throw lengthError(type, 'the number of bytes', source.bytes.length, needed);
    if (importance && importance.length !== cols) {
      throw lengthError(type, 'the number of importance weights', importance.length, cols);
    }
    const result = out ?? new Uint8Array(count * rowBytes);
    if (result.length < count * rowBytes) throw lengthError(type, 'the output', result.length, count * rowBytes);
    const kernel = kernels[type];
    const weights = kernel?.weighted === 'ignored' ? undefined : importance;
    const step = Math.max(1, Math.floor(chunkValues / cols));
    for (let row = 0; row < count; row += step) {
      const rows = Math.min(step, count - row);
      const part = result.subarray(row * rowBytes, (row + rows) * rowBytes);
      const first = (start + row) * cols;
      if (!kernel) encodeGgmlRows(type, widen(source, first, rows * cols), cols, 0, rows, part, weights);
      // Without importance weights blocks do not depend on their row: longer runs serve the kernels better.
      else if (weights) encodeChunk(type, source, first, rows, cols, weights, part);
      else encodeChunk(type, source, first, 1, rows * cols, undefined, part);
    }
    return result;
  };

  return { threads: pool.threads, quantize, dispose: () => pool.dispose() };
}

/** Input bytes of a chunk, with room for a kernel's last vector. */
const chunkBytesFor = (values: number, width: number) => values * width + 64;
