// ggml's block types as grids (../grid-values.ts): where the code of each value lies, and what its step and offset are.
//
// Codes are bit fields: a table per type says for value i of a block which bits of which byte hold its low and high part,
// and serves reading and writing. TQ1_0 packs base-3 digits instead and goes through its codec. Steps and offsets are
// read off the decoder, so that the layout of scales is written down once: a copy of the blocks whose codes all mean 1
// and whose minimum is zero decodes to the steps; one whose codes all mean 0 decodes to the offsets.

import type { GgmlTypeName } from '../format.ts';
import { ascendingCodes } from '../grid-values.ts';
import { iq4Values } from './iq4.ts';
import { decodeGgmlRows, encodeGgmlRows } from './quantize.ts';
import { ggmlRowBytes, ggmlType } from './types.ts';

/** Position of a bit field: byte of the block and shift within it. */
type Place = (i: number) => readonly [byte: number, shift: number];

interface BlockGrid {
  /** Values that share a step. */
  run: number;
  /** Value of each code. */
  values: Float32Array;
  /** Bit fields from the lowest up. Empty: the codes have no fields. */
  fields: readonly { width: number; place: Place }[];
  /** First byte of the f16 factor of all offsets. */
  minimum?: number;
}

const ramp = (count: number, first: number) => Float32Array.from({ length: count }, (_, code) => code + first);
/** Byte j holds element j in its low nibble and j + half in its high one; every 2·half values take `half` bytes. */
const halves = (at: number, half: number) => {
  const place: Place = (i) => [at + half * Math.floor(i / (2 * half)) + (i % half), i % (2 * half) < half ? 0 : 4];
  return { width: 4, place };
};
/** Per 128 elements 32 bytes; byte l holds elements l, +32, +64, +96 at shifts 0, 2, 4, 6. */
const quarters = (at: number) => {
  const place: Place = (i) => [at + 32 * (i >> 7) + (i & 31), 2 * ((i >> 5) & 3)];
  return { width: 2, place };
};
/** One bit for element i: bit i/32 of byte i % 32 (K types), or bit i % 8 of byte i/8. */
const masks = (at: number) => ({ width: 1, place: ((i) => [at + (i & 31), i >> 5]) as Place });
const bits = (at: number) => ({ width: 1, place: ((i) => [at + (i >> 3), i & 7]) as Place });
const sixBitLow: Place = (i) => [64 * (i >> 7) + 32 * ((i >> 5) & 1) + (i & 31), 4 * ((i >> 6) & 1)];

const int8 = Float32Array.from({ length: 256 }, (_, code) => (code << 24) >> 24);
const fp4 = Float32Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
const iq4 = Float32Array.from(iq4Values);

const grids: Record<GgmlTypeName, BlockGrid> = {
  q4_0: { run: 32, values: ramp(16, -8), fields: [halves(2, 16)] },
  q4_1: { run: 32, values: ramp(16, 0), fields: [halves(4, 16)], minimum: 2 },
  q5_0: { run: 32, values: ramp(32, -16), fields: [halves(6, 16), bits(2)] },
  q5_1: { run: 32, values: ramp(32, 0), fields: [halves(8, 16), bits(4)], minimum: 2 },
  q8_0: { run: 32, values: int8, fields: [{ width: 8, place: (i) => [2 + i, 0] }] },
  q2_k: { run: 16, values: ramp(4, 0), fields: [quarters(16)], minimum: 82 },
  q3_k: { run: 16, values: ramp(8, -4), fields: [quarters(32), masks(0)] },
  q4_k: { run: 32, values: ramp(16, 0), fields: [halves(16, 32)], minimum: 2 },
  q5_k: { run: 32, values: ramp(32, 0), fields: [halves(48, 32), masks(16)], minimum: 2 },
  q6_k: { run: 16, values: ramp(64, -32), fields: [{ width: 4, place: sixBitLow }, quarters(128)] },
  iq4_nl: { run: 32, values: iq4, fields: [halves(2, 16)] },
  iq4_xs: { run: 32, values: iq4, fields: [halves(8, 16)] },
  tq1_0: { run: 256, values: ramp(3, -1), fields: [] },
  tq2_0: { run: 256, values: ramp(4, -1), fields: [quarters(0)] },
  q1_0: { run: 128, values: Float32Array.of(-1, 1), fields: [bits(2)] },
  q2_0: { run: 64, values: ramp(4, -1), fields: [{ width: 2, place: (i) => [2 + (i >> 2), 2 * (i & 3)] }] },
  'ggml-mxfp4': { run: 32, values: fp4, fields: [halves(1, 16)] },
  'ggml-nvfp4': { run: 16, values: fp4, fields: [halves(4, 8)] },
};

/** Codes that the encoders never write: −128 of Q8_0, the fourth code of two-bit ternary values. */
function allowed(type: GgmlTypeName, value: number): boolean {
  return type === 'q8_0' ? value !== -128 : type === 'tq2_0' ? value !== 2 : true;
}

interface Field {
  width: number;
  byte: Uint8Array;
  shift: Uint8Array;
}

const fieldTables = new Map<GgmlTypeName, readonly Field[]>();

function fieldsOf(type: GgmlTypeName): readonly Field[] {
  let fields = fieldTables.get(type);
  if (!fields) {
    const places = Array.from({ length: ggmlType(type).block }, (_, i) => i);
    fields = grids[type].fields.map(({ width, place }) => ({
      width,
      byte: Uint8Array.from(places, (i) => place(i)[0]),
      shift: Uint8Array.from(places, (i) => place(i)[1]),
    }));
    fieldTables.set(type, fields);
  }
  return fields;
}

const one = 0x3c00; // f16
const tq1ScaleAt = 52;

/** Codes of `rows` rows, one a byte. */
export function readGgmlCodes(type: GgmlTypeName, bytes: Uint8Array, rows: number, cols: number): Uint8Array {
  const codes = new Uint8Array(rows * cols);
  const { block, bytes: size } = ggmlType(type);
  if (type === 'tq1_0') {
    const units = bytes.slice();
    for (let o = tq1ScaleAt; o < units.length; o += size) writeUint16(units, o, one);
    const digits = new Float32Array(rows * cols);
    decodeGgmlRows(type, units, cols, 0, rows, digits);
    return codes.map((_, i) => digits[i]! + 1);
  }
  for (const [f, { width, byte, shift }] of fieldsOf(type).entries()) {
    const mask = (1 << width) - 1;
    const up = f === 0 ? 0 : fieldsOf(type)[0]!.width;
    for (let at = 0, o = 0; at < codes.length; at += block, o += size) {
      for (let i = 0; i < block; i++) codes[at + i]! |= ((bytes[o + byte[i]!]! >> shift[i]!) & mask) << up;
    }
  }
  return codes;
}

/** Copy of the blocks with other codes. */
export function writeGgmlCodes(
  type: GgmlTypeName,
  bytes: Uint8Array,
  rows: number,
  cols: number,
  codes: Uint8Array,
): Uint8Array {
  const { block, bytes: size } = ggmlType(type);
  const out = bytes.slice();
  if (type === 'tq1_0') {
    encodeGgmlRows(
      type,
      Float32Array.from(codes, (c) => c - 1),
      cols,
      0,
      rows,
      out,
    );
    for (let o = tq1ScaleAt; o < out.length; o += size) writeUint16(out, o, bytes[o]! | (bytes[o + 1]! << 8));
    return out;
  }
  for (const [f, { width, byte, shift }] of fieldsOf(type).entries()) {
    const mask = (1 << width) - 1;
    const down = f === 0 ? 0 : fieldsOf(type)[0]!.width;
    for (let at = 0, o = 0; at < codes.length; at += block, o += size) {
      for (let i = 0; i < block; i++) {
        const b = o + byte[i]!;
        out[b] = (out[b]! & ~(mask << shift[i]!)) | (((codes[at + i]! >> down) & mask) << shift[i]!);
      }
    }
  }
  return out;
}

function writeUint16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 255;
  bytes[at + 1] = value >> 8;
}

/** The first decoded value of every run: [rows, cols / run]. */
function decodeRuns(type: GgmlTypeName, bytes: Uint8Array, rows: number, cols: number, run: number): Float32Array {
  const rowBytes = ggmlRowBytes(type, cols);
  const row = new Float32Array(cols);
  const out = new Float32Array((rows * cols) / run);
  for (let r = 0, at = 0; r < rows; r++) {
    decodeGgmlRows(type, bytes.subarray(r * rowBytes, (r + 1) * rowBytes), cols, 0, 1, row);
    for (let i = 0; i < cols; i += run) out[at++] = row[i]!;
  }
  return out;
}

/** Number of codes of a type. */
export const ggmlCodeCount = (type: GgmlTypeName): number => grids[type].values.length;

/** The fields of a Grid for blocks of a matrix [rows, cols]. */
export function ggmlGrid(type: GgmlTypeName, bytes: Uint8Array, rows: number, cols: number) {
  const { run, values, minimum } = grids[type];
  const all = (code: number) => writeGgmlCodes(type, bytes, rows, cols, new Uint8Array(rows * cols).fill(code));
  const units = all(values.indexOf(1));
  if (minimum !== undefined) {
    const { bytes: size } = ggmlType(type);
    for (let o = minimum; o < units.length; o += size) writeUint16(units, o, 0);
  }
  return {
    span: ggmlType(type).block,
    run,
    values,
    order: ascendingCodes(values, (v) => allowed(type, v)),
    steps: decodeRuns(type, units, rows, cols, run),
    offsets: minimum === undefined ? undefined : decodeRuns(type, all(0), rows, cols, run),
  };
}
