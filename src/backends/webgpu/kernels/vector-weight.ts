// How a matrix-vector product (vector-product.ts) reads its weight: a lane's step along K for several rows at once.
//
//   four bits   32 codes with one 16-byte load, E2M1 or signed integers in groups: the block's sum, then its scale
//   eights      eight numbers of any format, decoded to f32 (decode.ts)
//
// Four-bit codes are decoded in pairs (i, i + 4) of a word of eight, as f16, which holds them exactly, and multiplied as
// f32. E2M1: with y = 2 · 2^e (1 + m/2), whose bits are those of 2 joined with the code's exponent e and mantissa bit m,
// four times the magnitude is min(y, 2y − 4): no table, no subnormals. Integers: a code with its top bit flipped in the
// mantissa of 1024 is 1032 more than its value. Needs shader-f16. Scales multiply sums of 16 or 32 products, which overflow
// where numbers of a are above 2^118.

import type { Format, QuantSpec } from '../../../formats/format.ts';
import { accessSource, floatText, valueSource } from '../wgsl/bits.ts';
import { decodeSource, type PackedMatrix, storedScaleSource } from '../wgsl/decode.ts';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** What a step sees of the product's text. It may also read `row0`, `row1`, …: the rows of the weight. */
export interface VectorStep {
  /** Rows of a. */
  readonly M: number;
  /** Rows of the weight. */
  readonly rows: number;
  /** Numbers along K: k = unit number · unit … */
  readonly number: string;
  /** The f32 variable for row m of a and row r of the weight. */
  sum(m: number, r: number): string;
  /** Vector v of the unit of row m of a, a vec4<f32>. */
  a(m: number, v: number): string;
}

export interface VectorWeight {
  /** Numbers along K that a lane takes at a time; K may end inside the last of eight, not of 32. */
  readonly unit: 8 | 32;
  /** Vectors of a: each eight in the order 0 4 1 5, 2 6 3 7. */
  readonly paired: boolean;
  readonly declarations: string;
  /** A factor of all results, an expression; absent: 1. */
  readonly factor?: string;
  step(step: VectorStep): string;
}

/** Whether fourBitWeight reads the format in rows of K numbers. */
export function hasFourBitSteps(format: Format, K: number): format is QuantSpec {
  if (format.kind !== 'quant' || (format.element !== 'e2m1' && format.element !== 'int4')) return false;
  const { granularity, zeroPoint, choice, element, scale } = format;
  if (granularity.kind !== 'group' || zeroPoint !== 'none' || choice === 'int-or-float') return false;
  // integers with E8M0 scales are fixed point
  if (element === 'int4' && scale.format === 'e8m0') return false;
  const { size } = granularity;
  return (size === 16 || size % 32 === 0) && K % Math.max(size, 32) === 0;
}

export interface FourBitArrays {
  /** WGSL names: codes (vec4<u32>) and scales (u32). */
  readonly codes: string;
  readonly scales: string;
  /** Word of the scales' array that holds the tensor scale, where the format has one. */
  readonly tensorScale: number;
}

const pairSources = {
  e2m1: `
fn four_bit_pair(magnitude: u32, sign: u32) -> vec2<f32> {
  let y = bitcast<vec2<f16>>((magnitude & 0x0e000e00u) | 0x40004000u);
  let four_times = bitcast<u32>(min(y, y + y - vec2<f16>(4.0h)));
  return vec2<f32>(bitcast<vec2<f16>>(four_times ^ (sign & 0x80008000u)));
}
`,
  int4: `
fn four_bit_pair(code: u32) -> vec2<f32> {
  let number = bitcast<vec2<f16>>((code & 0x000f000fu) ^ 0x64086408u);
  return vec2<f32>(number - vec2<f16>(1032.0h));
}
`,
};

// Two scales beside each other. E4M3 with its exponent moved up by 8, y, is min(y, 2y − 2^-6), as with E2M1; the code of NaN
// gets the bit that makes its exponent f16's largest.
const e4m3PairSource = `
fn e4m3_pair(both: u32) -> vec2<f32> {
  let spread = both | (both << 8u);
  let codes = spread & 0x007f007fu;
  let y = bitcast<vec2<f16>>((codes << 7u) + 0x20002000u);
  let magnitude = bitcast<u32>(min(y, y + y - vec2<f16>(0.015625h)));
  let not_a_number = ((codes + 0x00010001u) & 0x00800080u) << 6u;
  return vec2<f32>(bitcast<vec2<f16>>(magnitude | not_a_number | ((spread & 0x00800080u) << 8u)));
}
`;

/** Pair j of a word, by element. Shifts are written out whole: of a shifted word they would be two. */
const pairOf = {
  e2m1: (word: string, j: number) =>
    `four_bit_pair(${word} ${['<< 9u', '<< 5u', '<< 1u', '>> 3u'][j]}, ${j < 3 ? `${word} << ${12 - 4 * j}u` : word})`,
  int4: (word: string, j: number) => `four_bit_pair(${j > 0 ? `${word} >> ${4 * j}u` : word})`,
};

/** Throws where hasFourBitSteps does not hold. */
export function fourBitWeight(format: Format, K: number, { codes, scales, tensorScale }: FourBitArrays): VectorWeight {
  if (!hasFourBitSteps(format, K)) throw new Error(`matmul: no four-bit groups along rows of ${K}`);
  const { element, granularity, scale } = format;
  const size = granularity.kind === 'group' ? granularity.size : K;
  const kind = element === 'e2m1' ? 'e2m1' : 'int4';
  const times = kind === 'e2m1' ? ` * ${floatText(1 / 4)}` : '';
  const halves = size === 16;
  const pairs = halves && scale.format === 'e4m3';
  const readScales = (r: number) => {
    if (pairs)
      return `let scales${r} = e4m3_pair(scale_Half(2u * block${r})); let scale${r}_0 = scales${r}.x; let scale${r}_1 = scales${r}.y;`;
    if (halves) return `let scale${r}_0 = scale_at(2u * block${r}); let scale${r}_1 = scale_at(2u * block${r} + 1u);`;
    return `let scale${r}_0 = scale_at(block${r} / ${size / 32}u);`;
  };
  return {
    unit: 32,
    paired: true,
    declarations: [
      valueSource,
      accessSource('scale_', scales),
      pairs ? e4m3PairSource : storedScaleSource('scale_at', 'scale_', scales, scale.format, 0),
      pairSources[kind],
    ].join(''),
    ...(scale.tensorScale && { factor: `bitcast<f32>(${scales}[${tensorScale}])` }),
    step({ M, rows, number, sum, a }) {
      const lines: string[] = [];
      const each = (text: (m: number, r: number) => string) =>
        lines.push(
          range(M)
            .flatMap((m) => range(rows).map((r) => text(m, r)))
            .join(' '),
        );
      // all loads first, so that they wait for memory together
      for (const r of range(rows))
        lines.push(`let block${r} = row${r} * ${K / 32}u + ${number}; let codes${r} = ${codes}[block${r}];`);
      for (const r of range(rows)) lines.push(readScales(r));
      each((m, r) => `var part${m}_${r} = vec2<f32>();`);
      for (const w of range(4)) {
        lines.push('{');
        for (const r of range(rows))
          lines.push(
            range(4)
              .map((j) => `let pair${r}_${j} = ${pairOf[kind](`codes${r}[${w}]`, j)};`)
              .join(' '),
          );
        for (const m of range(M)) {
          lines.push(`let low${m} = ${a(m, 2 * w)}; let high${m} = ${a(m, 2 * w + 1)};`);
          const numbers = [`low${m}.xy`, `low${m}.zw`, `high${m}.xy`, `high${m}.zw`];
          for (const r of range(rows))
            for (const j of range(4)) lines.push(`part${m}_${r} = fma(pair${r}_${j}, ${numbers[j]}, part${m}_${r});`);
        }
        lines.push('}');
        const fold = (half: number) =>
          each((m, r) => `${sum(m, r)} += (part${m}_${r}.x + part${m}_${r}.y)${times} * scale${r}_${half};`);
        if (halves && w === 1) {
          fold(0);
          each((m, r) => `part${m}_${r} = vec2<f32>();`);
        }
        if (w === 3) fold(halves ? 1 : 0);
      }
      return lines.join('\n      ');
    },
  };
}

/** A packed matrix of any format in one array<u32>; its columns are K. */
export function eightsWeight(array: string, matrix: PackedMatrix): VectorWeight {
  const K = matrix.cols;
  // Values beyond K are undefined, NaN perhaps.
  const masked = (eight: string) =>
    K % 8 === 0
      ? ''
      : `${eight}.low = select(vec4f(), ${eight}.low, vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(${K}u));
      ${eight}.high = select(vec4f(), ${eight}.high, vec4u(k) + vec4u(4u, 5u, 6u, 7u) < vec4u(${K}u));`;
  return {
    unit: 8,
    paired: false,
    declarations: decodeSource([{ prefix: 'w', array, matrix }]),
    step({ M, rows, number, sum, a }) {
      const decoded = range(rows).map((r) => `var eight${r} = wEight(row${r}, k); ${masked(`eight${r}`)}`);
      const products = range(M).flatMap((m) => [
        `let low${m} = ${a(m, 0)}; let high${m} = ${a(m, 1)};`,
        ...range(rows).map((r) => `${sum(m, r)} += dot(low${m}, eight${r}.low) + dot(high${m}, eight${r}.high);`),
      ]);
      return [`let k = 8u * (${number});`, ...decoded, ...products].join('\n      ');
    },
  };
}
