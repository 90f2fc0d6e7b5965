// Chains of dequantize, transpose, Hadamard transform and quantize in one kernel give the bits of the ops one by one.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../../test/support/software-gpu.ts';
import { parseFormat } from '../../../formats/registry.ts';
import { mul } from '../../../graph/ops/arithmetic.ts';
import { hadamard } from '../../../graph/ops/hadamard.ts';
import { reshape, transpose } from '../../../graph/ops/layout.ts';
import { dequantize, quantize, quantizeWithBits } from '../../../graph/ops/quantize.ts';
import { trace } from '../../../graph/trace.ts';
import { f32, i32 } from '../../../graph/value-type.ts';
import { gaussian, type OpCase, type Outputs, runOpCase } from '../../op-case.ts';
import type { WebgpuBackend } from '../backend.ts';
import { fuseQuantize } from '../fuse-quantize.ts';
import { fusedQuantizeOp } from '../fused-quantize-op.ts';

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();
const plain = missing ? undefined : await createTestBackend({ fuse: false });

interface Chain {
  readonly format: string;
  /** Rows and columns of the source. */
  readonly rows: number;
  readonly cols: number;
  /** Format of a packed source. */
  readonly from?: string;
  readonly transposed?: boolean;
  readonly block?: number;
  readonly signs?: 'first' | 'last';
  readonly bound?: number;
  readonly steps?: readonly number[];
}

/** Numbers of very different sizes from block to block, zeros and ties among them. */
function values(rows: number, cols: number): Float32Array {
  return gaussian(5, [rows, cols]).map((v, i) => {
    const kind = Math.floor(i / 32) % 5;
    if (kind === 1) return Math.round(v * 4) / 4;
    if (kind === 2) return v * 2 ** (((i >> 5) % 30) - 15);
    if (kind === 3) return i % 64 < 32 ? 0 : v;
    return v;
  });
}

function chainCase({ format, rows, cols, from, transposed, block, signs, bound, steps }: Chain): OpCase {
  const random = block ? gaussian(3, [block]).map((v) => (v < 0 ? -1 : 1)) : new Float32Array();
  return {
    name: format,
    tolerance: 'exact',
    build(g) {
      const x = g.input('x', f32([rows, cols]));
      const source = from ? dequantize(quantize(x, parseFormat(from))) : x;
      let v = transposed ? transpose(source, [1, 0]) : source;
      const s = signs && block ? g.input('signs', f32([block])) : undefined;
      if (block) v = hadamard(v, { blockSize: block, ...(signs === 'first' && { signs: s }) });
      if (s && signs === 'last') v = reshape(mul(reshape(v, [-1, block!]), s), v.type.shape);
      const key = { seed: 7, stream: 3, ...(steps && { step: g.input('step', i32([1])) }) };
      if (bound === undefined) {
        g.output('y', dequantize(quantize(v, parseFormat(format), key)));
        return;
      }
      const { packed, bits } = quantizeWithBits(v, parseFormat(format), bound, key);
      g.output('y', dequantize(packed));
      g.output('bits', bits);
    },
    runs: (steps ?? [0]).map((step) => ({
      x: values(rows, cols),
      ...(signs && { signs: random }),
      ...(steps && { step: Int32Array.of(step) }),
    })),
  };
}

const fusedNodes = (opCase: OpCase) =>
  fuseQuantize(trace(opCase.build), (backend as WebgpuBackend).gpu).nodes.filter(
    ({ op }) => (op as object) === fusedQuantizeOp,
  ).length;

const bitsOf = (results: readonly Outputs[]) =>
  results.map((outputs) => [...outputs].map(([name, { data }]) => [name, new Uint32Array(data.buffer).join()]));

const print = ({ format, rows, cols, ...rest }: Chain) => `${format} [${rows}, ${cols}] ${JSON.stringify(rest)}`;

const chains: Chain[] = [
  // along rows: a prime number of rows, several workgroups, blocks of every length
  { format: 'mxfp4', rows: 7, cols: 96, block: 32 },
  { format: 'mxfp4-tozero', rows: 131, cols: 96, block: 32, bound: 5.5 },
  { format: 'mxfp4-fourthirds-sr', rows: 131, cols: 96, block: 32, signs: 'first', steps: [0, 5] },
  { format: 'mxfp4-fourthirds-sr', rows: 13, cols: 64, block: 16, signs: 'last' },
  { format: 'mxfp4-sr', rows: 3, cols: 128, block: 4, signs: 'first' },
  { format: 'mxfp4', rows: 5, cols: 384, block: 128, signs: 'first' },
  { format: 'mxfp4-even', rows: 2, cols: 4096, block: 4096, signs: 'first' },
  { format: 'mxfp8-e4m3', rows: 11, cols: 64, block: 32, bound: 400 },
  { format: 'mxfp8-e5m2-sr', rows: 11, cols: 64, block: 8, steps: [1] },
  { format: 'mxint8', rows: 5, cols: 64, block: 32, bound: 1.5 },
  { format: 'mxfp4', rows: 11, cols: 96, from: 'mxfp4', block: 32, signs: 'first' },
  { format: 'mxfp4-fourthirds-sr', rows: 37, cols: 128, from: 'nvfp4', block: 128, signs: 'last' },
  { format: 'fp8-e4m3-tile1x128', rows: 7, cols: 256, block: 128 },
  { format: 'int4-g64', rows: 7, cols: 128, block: 32 },
  { format: 'mxfp4-quest-tozero', rows: 131, cols: 96, block: 32, bound: 6 },
  { format: 'mxfp4-questnearest-tozero', rows: 5, cols: 64, block: 64, bound: 6 },
  { format: 'fp4-e2m1-g32-quest-tozero', rows: 3, cols: 32, block: 32, bound: 6 },
  {
    format: 'mxfp4-quest-tozero',
    rows: 160,
    cols: 64,
    from: 'mxfp4',
    transposed: true,
    block: 32,
    signs: 'first',
    bound: 6,
  },
  // along columns: shapes within and across tiles, columns that are no multiple of 4
  { format: 'mxfp4', rows: 128, cols: 32, transposed: true },
  { format: 'mxfp4-tozero', rows: 256, cols: 72, transposed: true, block: 32, bound: 5.5 },
  { format: 'mxfp4-fourthirds-sr', rows: 384, cols: 37, transposed: true, block: 32, signs: 'first', steps: [3] },
  { format: 'mxfp4-fourthirds-sr', rows: 96, cols: 40, transposed: true, block: 32, signs: 'first' },
  { format: 'mxfp4-fourthirds-sr', rows: 160, cols: 21, transposed: true, block: 16, signs: 'last' },
  {
    format: 'mxfp4-fourthirds-sr',
    rows: 96,
    cols: 64,
    from: 'mxfp4-tozero',
    transposed: true,
    block: 32,
    signs: 'first',
  },
  {
    format: 'mxfp4-fourthirds-sr',
    rows: 128,
    cols: 37,
    from: 'int8-token',
    transposed: true,
    block: 128,
    signs: 'first',
  },
  {
    format: 'mxfp4-fourthirds-tozero',
    rows: 128,
    cols: 96,
    from: 'mxfp4-fourthirds',
    transposed: true,
    block: 128,
    signs: 'last',
  },
  { format: 'mxfp8-e4m3', rows: 64, cols: 36, transposed: true, bound: 300 },
  { format: 'fp8-e4m3-tile1x128', rows: 256, cols: 36, transposed: true, block: 64 },
  // scales of the whole tensor
  { format: 'nvfp4-mseden', rows: 13, cols: 128, block: 128, signs: 'first', steps: [0, 4] },
  {
    format: 'nvfp4-mseden',
    rows: 160,
    cols: 64,
    from: 'nvfp4-46',
    transposed: true,
    block: 32,
    signs: 'first',
    steps: [2],
  },
  { format: 'nvfp4', rows: 37, cols: 96, block: 16, signs: 'first' },
  { format: 'nvfp4-sr', rows: 37, cols: 96, block: 32, steps: [0, 9] },
  { format: 'nvfp4-sr', rows: 192, cols: 36, transposed: true, block: 16, signs: 'first', steps: [2] },
  { format: 'nvfp4', rows: 96, cols: 48, from: 'nvfp4', transposed: true, block: 16, signs: 'first', bound: 6 },
  { format: 'nvfp4-sr', rows: 160, cols: 36, transposed: true },
  { format: 'fp8-e4m3-tensor', rows: 37, cols: 96, block: 32 },
  { format: 'fp8-e5m2-tensor', rows: 64, cols: 36, transposed: true, block: 64 },
];

describe.skipIf(!backend)(`fused chains on webgpu${missing ? ` (${missing})` : ''}`, () => {
  const [gpu, unfused] = [backend as WebgpuBackend, plain as WebgpuBackend];
  afterAll(() => {
    for (const b of [gpu, unfused]) {
      expect(b.usedBytes).toBe(0);
      b.dispose();
    }
  });

  it.each(chains.map((chain) => [print(chain), chain] as const))('%s', async (_, chain) => {
    const opCase = chainCase(chain);
    expect(fusedNodes(opCase)).toBe(1);
    expect(bitsOf(await runOpCase(gpu, opCase))).toEqual(bitsOf(await runOpCase(unfused, opCase)));
  });

  it('gives the same bits with workgroups of 64 threads, as where memory is small', async () => {
    const small = await createTestBackend();
    Object.defineProperty(small.gpu, 'workgroupBytes', { value: 16_384 });
    const along = (transposed: boolean, format: string) =>
      chains.filter((c) => c.format === format && !c.transposed !== transposed).slice(-1);
    const some = [true, false].flatMap((way) => ['mxfp4-fourthirds-sr', 'nvfp4'].flatMap((f) => along(way, f)));
    expect(some.length).toBe(4);
    for (const chain of some) {
      const opCase = chainCase(chain);
      expect(bitsOf(await runOpCase(small, opCase)), print(chain)).toEqual(bitsOf(await runOpCase(unfused, opCase)));
    }
    small.dispose();
  });

  it.each([
    ['a NaN that a transform spreads', Number.NaN, 32, 'mxfp4'],
    ['a NaN among larger values', Number.NaN, undefined, 'mxfp4'],
    ['a NaN among values with a deviation', Number.NaN, undefined, 'mxfp4-quest-tozero'],
    ['a NaN in a scale of several threads', Number.NaN, undefined, 'fp8-e4m3-tile1x128'],
    ['an infinity', Number.POSITIVE_INFINITY, undefined, 'mxfp4'],
    ['an infinity that is negative', Number.NEGATIVE_INFINITY, 32, 'nvfp4'],
  ] as const)('names the source of %s', async (_, value, block, format) => {
    const opCase = chainCase({ format, rows: 128, cols: 32, transposed: true, block });
    expect(fusedNodes(opCase)).toBe(1);
    opCase.runs[0].x[77] = value;
    const run = await gpu.compile(trace(opCase.build), { params: new Map() });
    run.write('x', opCase.runs[0].x);
    await expect((async () => run.run())()).rejects.toThrow('quantize: x holds a NaN or an infinity');
    run.dispose();
  });

  it('takes numbers whose sums are beyond f32', async () => {
    for (const format of ['mxfp4', 'mxfp4-quest-tozero']) {
      const opCase = chainCase({ format, rows: 128, cols: 4, transposed: true });
      const x = opCase.runs[0].x.map((_, i) => (i % 8 < 4 ? 3e38 : -3e38) * (1 - i / 1000));
      const huge = { ...opCase, runs: [{ x }] };
      expect(bitsOf(await runOpCase(gpu, huge)), format).toEqual(bitsOf(await runOpCase(unfused, huge)));
    }
  });

  it('needs no memory for what lies between', async () => {
    const graph = trace(chainCase({ format: 'mxfp4', rows: 256, cols: 256, transposed: true, block: 32 }).build);
    const plans = [];
    for (const b of [gpu, unfused]) {
      const run = await b.compile(graph, { params: new Map() });
      plans.push(run.plan.arenaBytes);
      run.dispose();
    }
    expect(plans[1] - plans[0]).toBeGreaterThanOrEqual(256 * 256 * 4);
  });
});
