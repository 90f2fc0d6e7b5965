// Quantizes stored matrices with the WASM kernels, on all threads of a pool: the bytes are those of the reference codec.
//
// The raw bytes of a checkpoint (bf16, f16 or f32) are copied into the pool's memory strip by strip, a MiB for each
// thread, so that memory stays small whatever the matrix; threads share the bands of a strip. Scales that cover the whole
// tensor need its largest magnitude first: then a matrix of several strips is copied twice.

import { deviceError } from '../../errors.ts';
import { bf16Value, f16Value, f32Bits, f32FromBits } from '../../formats/bits.ts';
import { tensorScaleOf } from '../../formats/block-codec.ts';
import type { Format, Quantized, QuantSpec } from '../../formats/format.ts';
import { scaleLayout } from '../../formats/layout.ts';
import { nvfp4TensorScale, usesNvfp4Codec } from '../../formats/nvfp4.ts';
import { packedRowBytes } from '../../formats/packing.ts';
import { dequantize, nonFiniteValue, quantize } from '../../formats/quantize.ts';
import { formatName } from '../../formats/registry.ts';
import { scaleBytes } from '../../formats/scale-format.ts';
import { elementBits } from '../../formats/table.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import { createPool, type Pool, type PoolOptions } from './pool.ts';
import { bytesOf, copyBytes, uninitializedBytes } from './quantizer-copy.ts';
import {
  bandRows,
  hasQuantizeKernel,
  kernelScratchBytes,
  selectionWords,
  selectsScales,
  specWords,
} from './quantizer-plan.ts';

/** A row-major matrix as a checkpoint stores it, little-endian. */
export interface StoredMatrix {
  bytes: Uint8Array;
  dtype: 'f32' | 'bf16' | 'f16';
  rows: number;
  cols: number;
}

/** A tensor as a stored matrix, leading dimensions as rows; undefined when it holds neither f32 nor 16-bit floats. */
export function storedMatrix(tensor: AnyTensor): StoredMatrix | undefined {
  const cols = tensor.shape.at(-1) ?? 1;
  const rows = elementCount(tensor.shape) / cols;
  if (tensor.kind === 'packed') {
    const { format, codes } = tensor.data;
    return format.kind === 'float' ? { bytes: codes, dtype: format.name, rows, cols } : undefined;
  }
  const { buffer, byteOffset, byteLength } = tensor.data;
  return tensor.dtype === 'f32'
    ? { bytes: new Uint8Array(buffer, byteOffset, byteLength), dtype: 'f32', rows, cols }
    : undefined;
}

export interface WasmQuantizer {
  readonly threads: number;
  /**
   * Quantizes a matrix; the result equals `quantize(values, rows, cols, format)` byte for byte.
   *
   * @param tensor name for messages
   * @throws device error `no-kernel` when hasQuantizeKernel(format, cols) is false; model error on NaN or infinity
   */
  quantize(matrix: StoredMatrix, format: Format, tensor?: string): Quantized;
  dispose(): void;
}

const dtypeIds = { f32: 0, bf16: 1, f16: 2 } as const;
/** Source and codes of a strip stay in the caches. */
const threadStripBytes = 1 << 20;
const mostStripBytes = 8 << 20;
const argumentWords = 34;
/** Below this largest magnitude the reciprocals of four-over-six leave the range of float32. */
const smallestChoice = 2 ** -100;

/**
 * Starts the threads.
 *
 * @example
 * const quantizer = await createWasmQuantizer();
 * const q = quantizer.quantize({ bytes, dtype: 'bf16', rows: 4096, cols: 4096 }, parseFormat('mxfp4'));
 */
export async function createWasmQuantizer(options: PoolOptions = {}): Promise<WasmQuantizer> {
  const pool = withBuffers(await createPool('quantize', options));
  return {
    threads: pool.threads,
    quantize(matrix, format, tensor) {
      if (!hasQuantizeKernel(format, matrix.cols)) {
        throw deviceError({
          code: 'no-kernel',
          op: 'quantize',
          problem: `no WASM kernel encodes ${formatName(format)} with K = ${matrix.cols}`,
          fix: 'use the reference codec',
          tensor,
        });
      }
      return quantizeMatrix(pool, matrix, format, tensor);
    },
    dispose: () => pool.dispose(),
  };
}

/** A pool with named buffers that grow and are kept between calls. */
interface QuantizerPool extends Pool {
  /** Address of at least `bytes` bytes, contents undefined. */
  buffer(name: string, bytes: number): number;
}

function withBuffers(pool: Pool): QuantizerPool {
  const buffers = new Map<string, { address: number; bytes: number }>();
  return {
    ...pool,
    buffer(name, bytes) {
      const old = buffers.get(name);
      if (old && old.bytes >= bytes) return old.address;
      if (old) pool.allocator.free(old.address);
      buffers.delete(name);
      const address = pool.allocator.allocate(bytes, `the ${name} of a quantization`);
      buffers.set(name, { address, bytes });
      return address;
    },
  };
}

function quantizeMatrix(pool: QuantizerPool, matrix: StoredMatrix, spec: QuantSpec, tensor?: string): Quantized {
  const { rows, cols, dtype } = matrix;
  const valueBytes = dtype === 'f32' ? 4 : 2;
  const sourceRow = cols * valueBytes;
  if (matrix.bytes.byteLength !== rows * sourceRow) {
    throw new Error(`quantize: ${matrix.bytes.byteLength} bytes for ${rows} × ${cols} ${dtype} values`);
  }
  const { scaleRows, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  const rowBytes = packedRowBytes(elementBits(spec.element), cols);
  const perScale = scaleBytes(spec.scale.format);
  const perZero = { none: 0, integer: 1, float: perScale }[spec.zeroPoint];
  const band = bandRows(spec);
  const wholeTensor = spec.granularity.kind === 'tensor';

  const { memory, threads } = pool;
  const twoPasses = wholeTensor || spec.scale.tensorScale;
  const bytesAtOnce = Math.min(threads * threadStripBytes, mostStripBytes);
  const bands = Math.max(1, Math.floor(bytesAtOnce / (sourceRow * band)));
  const stripRows = Math.min(rows, (bands > threads ? bands - (bands % threads) : bands) * band);
  const stripScales = wholeTensor ? 1 : Math.ceil(stripRows / band) * scaleCols;
  const scratchBytes = kernelScratchBytes(spec, cols);

  const args = pool.buffer('arguments', 4 * argumentWords);
  const status = pool.buffer('status', 4 * threads);
  const scratch = pool.buffer('scratch', scratchBytes * threads);
  const source = pool.buffer('source', stripRows * sourceRow);
  const codesAt = pool.buffer('codes', stripRows * rowBytes);
  const scalesAt = pool.buffer('scales', stripScales * perScale);
  const zerosAt = pool.buffer('zero points', stripScales * perZero);
  const heap = bytesOf(memory.buffer);
  const statusWords = new Int32Array(memory.buffer, status, threads);
  const words = new Int32Array(memory.buffer, args, argumentWords);
  const stored = bytesOf(matrix.bytes.buffer, matrix.bytes.byteOffset, matrix.bytes.byteLength);

  let loaded = -1;
  /** Copies a strip in, unless it is there, and runs a kernel on it. */
  const runStrip = (kernel: string, first: number, count: number) => {
    if (loaded !== first) copyBytes(stored, first * sourceRow, (first + count) * sourceRow, heap, source);
    loaded = first;
    words[2] = count;
    pool.run(kernel, args);
  };
  const strips = function* (): Generator<[first: number, count: number]> {
    for (let first = 0; first < rows; first += stripRows) yield [first, Math.min(stripRows, rows - first)];
  };
  const setWords = (tensorScale: number, tensorAmax: number, fixedAmax: number) => {
    words.set([source, dtypeIds[dtype], 0, cols, ...specWords(spec, cols, tensorScale, tensorAmax)]);
    words.set([codesAt, rowBytes, scalesAt, zerosAt, scratch, scratchBytes, status, fixedAmax], 22);
    words.set(selectionWords(spec, tensorAmax), 30);
  };

  const kernel = selectsScales(spec) ? 'quantizeRowsSelecting' : 'quantizeRows';
  let amax = 0;
  if (twoPasses) {
    setWords(1, 0, -1);
    for (const [first, count] of strips()) {
      runStrip('quantizeAmax', first, count);
      for (const bits of statusWords) {
        if (bits >= 0x7f800000) throw findNonFinite(matrix, first, count, tensor);
        amax = Math.max(amax, f32FromBits(bits));
      }
    }
  }
  if (spec.choice !== 'none' && amax > 0 && amax < smallestChoice)
    return quantize(valuesOf(matrix), rows, cols, spec, { tensor });
  const tensorScale = usesNvfp4Codec(spec) ? nvfp4TensorScale(spec, amax) : tensorScaleOf(spec, amax);
  setWords(tensorScale, amax, wholeTensor ? f32Bits(amax) : -1);

  // strips cover all rows, so every byte is written
  const codes = uninitializedBytes(rows * rowBytes);
  const scales = uninitializedBytes(scaleRows * scaleCols * perScale);
  const zeroPoints = spec.zeroPoint === 'none' ? undefined : uninitializedBytes(scaleRows * scaleCols * perZero);
  for (const [first, count] of strips()) {
    runStrip(kernel, first, count);
    if (statusWords.some((row) => row !== 0)) throw findNonFinite(matrix, first, count, tensor);
    copyBytes(heap, codesAt, codesAt + count * rowBytes, codes, first * rowBytes);
    const firstScale = wholeTensor ? 0 : (first / band) * scaleCols;
    const scaleCount = wholeTensor ? 1 : Math.ceil(count / band) * scaleCols;
    copyBytes(heap, scalesAt, scalesAt + scaleCount * perScale, scales, firstScale * perScale);
    if (zeroPoints) copyBytes(heap, zerosAt, zerosAt + scaleCount * perZero, zeroPoints, firstScale * perZero);
  }
  return { format: spec, rows, cols, codes, scales, zeroPoints, tensorScale };
}

/** The float32 values of a stored matrix. */
function valuesOf({ bytes, dtype, rows, cols }: StoredMatrix): Float32Array {
  const none = new Uint8Array(0);
  const format = { kind: 'float', name: dtype } as const;
  return dequantize({ format, rows, cols, codes: bytes, scales: none, zeroPoints: undefined, tensorScale: 1 });
}

/** The error that names the first NaN or infinity of a strip of rows. */
function findNonFinite(matrix: StoredMatrix, first: number, count: number, tensor: string | undefined): Error {
  const { bytes, dtype, cols } = matrix;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = first * cols; i < (first + count) * cols; i++) {
    const value =
      dtype === 'f32'
        ? view.getFloat32(4 * i, true)
        : dtype === 'bf16'
          ? bf16Value(view.getUint16(2 * i, true))
          : f16Value(view.getUint16(2 * i, true));
    if (!Number.isFinite(value)) return nonFiniteValue(Math.floor(i / cols), i % cols, value, tensor);
  }
  return new Error('quantize: a kernel reported a non-finite value that is not there');
}
