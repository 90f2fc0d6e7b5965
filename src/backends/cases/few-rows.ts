// Few rows times packed weights, as generation multiplies: long K, odd N, formats in four-bit groups, chosen experts.

import { quantize as encode } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { qtensor } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { packedTensor } from './common.ts';

const linear = { transposeB: true } as const;

const few = (format: string, M: number, N: number, K: number): OpCase => ({
  name: `few rows: ${M} × ${format} [${N}, ${K}]`,
  tolerance: 3e-6,
  build(g) {
    const w = g.param('w', packed([N, K], parseFormat(format)));
    g.output('y', matmul(g.input('a', f32([M, K])), w, linear));
  },
  params: { w: packedTensor(2, [N, K], format) },
  runs: [{ a: gaussian(1, [M, K]) }],
});

const experts = (format: string, shape: readonly number[], N: number): OpCase => {
  const K = shape[shape.length - 1];
  return {
    name: `few rows: experts in ${format}, x [${shape}]`,
    tolerance: 3e-6,
    build(g) {
      const w = g.param('w', packed([4, N, K], parseFormat(format)));
      g.output('y', expertMatmul(g.input('x', f32(shape)), w, g.input('chosen', i32([3, 2]))));
    },
    params: { w: packedTensor(2, [4, N, K], format) },
    runs: [{ x: gaussian(1, shape), chosen: Int32Array.of(3, 0, 1, 1, 2, 3) }],
  };
};

/**
 * Eight rows, each with a single one, times rows of which each begins with another code: all codes at several places. With
 * `everyScale` the bytes of scales are 0 to 255 in turn.
 */
function everyCode(format: string, everyScale = false): OpCase {
  const [M, N, K] = [8, 64, 64];
  const spec = parseFormat(format);
  const whole = encode(gaussian(2, [N, K]), N, K, spec);
  const codes = new Uint8Array((N * K) / 2);
  const code = (n: number, k: number) => (n + k + (k >> 4)) & 15;
  for (let i = 0; i < codes.length; i++) {
    const [n, k] = [Math.floor((2 * i) / K), (2 * i) % K];
    codes[i] = code(n, k) | (code(n, k + 1) << 4);
  }
  const scales = everyScale ? whole.scales.map((_, i) => i) : whole.scales;
  const a = new Float32Array(M * K);
  for (let m = 0; m < M; m++) a[m * K + 9 * m] = 1;
  return {
    name: `few rows: every code of ${format}${everyScale ? ' and its scales' : ''}`,
    tolerance: 'exact',
    params: { w: qtensor([N, K], { ...whole, codes, scales }) },
    runs: [{ a }],
    build: (g) => void g.output('y', matmul(g.input('a', f32([M, K])), g.param('w', packed([N, K], spec)), linear)),
  };
}

/** Formats that have steps of 32 codes where a device has f16. */
export const fourBitCases: OpCase[] = [
  few('mxfp4', 1, 37, 4256),
  few('mxfp4', 8, 5, 1056),
  few('nvfp4', 1, 35, 96),
  few('int4-g32', 2, 7, 160),
  few('int4-g128', 5, 9, 384),
  few('int4-g16', 1, 5, 96),
  experts('int4-g64', [3, 2, 64], 5),
  everyCode('mxfp4'),
  everyCode('nvfp4', true),
  everyCode('int4-g32'),
];

export const fewRowsCases: OpCase[] = [
  ...fourBitCases,
  few('mxfp4-fourthirds', 3, 6, 64),
  few('nvfp4', 6, 3, 1056),
  experts('mxfp4', [3, 96], 35),
  // groups that end inside 32 numbers, zero points, rows that end inside eight
  few('int4-g48', 1, 5, 96),
  few('int4-g32-asym', 8, 9, 2144),
  few('int8-channel', 3, 7, 8229),
];
