// Walks a matrix tile by tile and lays out codes, scales and zero points as `Quantized` has them; and back.

import { type BlockEncoder, blockEncoder, tensorScaleOf } from './block-codec.ts';
import { elementCodec } from './element.ts';
import type { FixedScale } from './fixed-scale.ts';
import type { Quantized, QuantSpec } from './format.ts';
import { scaleLayout } from './layout.ts';
import { nvfp4BlockEncoder, nvfp4TensorScale, usesNvfp4Codec } from './nvfp4.ts';
import { packCodes, unpackRows } from './packing.ts';
import { roundingSource, type UniformSource } from './random.ts';
import { decodeScale, readScale, scaleBytes, writeScale } from './scale-format.ts';

export interface SpecOptions {
  seed: number;
  stream: number;
  step: number;
  /** Index of the first value in its random stream. */
  firstElement: number;
  fixed?: FixedScale;
}

function amaxOf(values: Float32Array): number {
  let amax = 0;
  for (let i = 0; i < values.length; i++) amax = Math.max(amax, Math.abs(values[i]!));
  return amax;
}

/** Quantizes finite values [rows, cols]; see quantize.ts. */
export function quantizeSpec(
  values: Float32Array,
  rows: number,
  cols: number,
  spec: QuantSpec,
  options: SpecOptions,
): Quantized {
  const layout = scaleLayout(spec.granularity, rows, cols);
  const special = usesNvfp4Codec(spec);
  const tensorAmax = spec.scale.tensorScale ? amaxOf(values) : 0;
  const tensorScale = special ? nvfp4TensorScale(spec, tensorAmax) : tensorScaleOf(spec, tensorAmax);
  const encoder: BlockEncoder = special
    ? nvfp4BlockEncoder(spec, tensorAmax)
    : blockEncoder(spec, tensorScale, options.fixed);
  const { tileRows, tileCols, scaleRows, scaleCols } = layout;
  const format = spec.scale.format;
  const scales = new Uint8Array(scaleRows * scaleCols * scaleBytes(format));
  const zeroBytes = spec.zeroPoint === 'float' ? scaleBytes(format) : 1;
  const zeroPoints = spec.zeroPoint === 'none' ? undefined : new Uint8Array(scaleRows * scaleCols * zeroBytes);
  const codes = new Uint8Array(rows * cols);

  const size = Math.min(tileRows, rows) * Math.min(tileCols, cols);
  const block = new Float32Array(size);
  const blockCodes = new Uint8Array(size);
  const random: UniformSource | undefined =
    spec.rounding === 'stochastic' || spec.scale.rule === 'ms-eden'
      ? roundingSource(options.seed, options.stream, options.step)
      : undefined;

  for (let tr = 0; tr < scaleRows; tr++) {
    const r0 = tr * tileRows;
    const height = Math.min(tileRows, rows - r0);
    for (let tc = 0; tc < scaleCols; tc++) {
      const c0 = tc * tileCols;
      const width = Math.min(tileCols, cols - c0);
      for (let r = 0; r < height; r++) {
        // loops: views of short runs cost more than copying them
        const start = (r0 + r) * cols + c0;
        for (let c = 0; c < width; c++) block[r * width + c] = values[start + c]!;
      }
      const u = random
        ? (i: number) => random.at(options.firstElement + (r0 + Math.floor(i / width)) * cols + c0 + (i % width))
        : () => 0;
      const { scale, zero } = encoder.encode(block, height * width, blockCodes, u);
      const at = tr * scaleCols + tc;
      writeScale(format, scales, at, scale);
      if (zeroPoints) {
        if (spec.zeroPoint === 'float') writeScale(format, zeroPoints, at, zero);
        else zeroPoints[at] = zero;
      }
      for (let r = 0; r < height; r++) {
        const start = (r0 + r) * cols + c0;
        for (let c = 0; c < width; c++) codes[start + c] = blockCodes[r * width + c]!;
      }
    }
  }
  return {
    format: spec,
    rows,
    cols,
    codes: packCodes(codes, rows, cols, encoder.bits),
    scales,
    zeroPoints,
    tensorScale,
  };
}

/** Values of `count` rows from `first` on, written to `out` [count, cols]. */
export function dequantizeSpecRows(
  q: Quantized,
  spec: QuantSpec,
  first: number,
  count: number,
  out: Float32Array,
): void {
  const { cols, tensorScale, zeroPoints } = q;
  const { tileRows, tileCols, scaleCols } = scaleLayout(spec.granularity, q.rows, cols);
  const codec = elementCodec(spec);
  const codes = unpackRows(q.codes, cols, codec.bits, first, count);
  const format = spec.scale.format;
  for (let r = 0; r < count; r++) {
    const scaleRow = Math.floor((first + r) / tileRows) * scaleCols;
    for (let tc = 0; tc < scaleCols; tc++) {
      const at = scaleRow + tc;
      let scale = decodeScale(format, readScale(format, q.scales, at));
      let values = codec.values;
      if (spec.choice === 'int-or-float' && (q.scales[at]! & 0x80) !== 0) {
        scale = -scale;
        values = intArmValues;
      }
      const from = r * cols + tc * tileCols;
      const to = r * cols + Math.min((tc + 1) * tileCols, cols);
      if (spec.zeroPoint === 'none') {
        for (let i = from; i < to; i++) {
          out[i] = Math.fround(Math.fround(values[codes[i]!]! * scale) * tensorScale);
        }
      } else if (spec.zeroPoint === 'integer') {
        const zero = zeroPoints![at]!;
        for (let i = from; i < to; i++) out[i] = Math.fround((codes[i]! - zero) * scale);
      } else {
        const minimum = decodeScale(format, readScale(format, zeroPoints!, at));
        for (let i = from; i < to; i++) out[i] = Math.fround(Math.fround(codes[i]! * scale) + minimum);
      }
    }
  }
}

/** IF4's integer arm: two's complement nibbles times 6/7, with the published constant. */
export const intArmValues = Float32Array.from({ length: 16 }, (_, q) => (q > 7 ? q - 16 : q) * 0.8571428571);
