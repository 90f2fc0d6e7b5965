// Families of kernels on subgroup matrices by themselves, with the tile shapes that webgpu-matmul.ts found best on an
// H100; that program explores others.

import type { GpuTraits } from '../src/backends/webgpu/device.ts';
import { fragmentsOf, integerFragmentsOf } from '../src/backends/webgpu/fragments.ts';
import type { OperandAxis } from '../src/backends/webgpu/kernels/matmul-operand.ts';
import type { SubgroupTile } from '../src/backends/webgpu/kernels/matmul-subgroup.ts';
import { subgroupMatmul } from '../src/backends/webgpu/kernels/matmul-subgroup-source.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { type QTensor, qtensor } from '../src/tensor/tensor.ts';
import { columns16, packed, values } from './webgpu-data.ts';
import type { Family, Job, Text, Version } from './webgpu-ladder.ts';

const tile = (
  [blockM, blockN, blockK]: readonly [number, number, number],
  [subgroupsM, subgroupsN]: readonly [number, number],
  group = 8,
): SubgroupTile => ({ blockM, blockN, blockK, subgroupsM, subgroupsN, buffers: 1, group, edge: 16, lanes: 32 });

const square = tile([128, 128, 32], [2, 2]);
const shapes = [square, tile([128, 256, 32], [2, 4]), tile([256, 128, 32], [4, 2])];
const print = (t: SubgroupTile) => `${t.blockM}×${t.blockN}×${t.blockK}${t.group ? `, bands of ${t.group}` : ''}`;

const needs = (gpu: GpuTraits): string | undefined => {
  const found = fragmentsOf(gpu);
  return found?.edge === 16 && found.lanes === 32 ? undefined : 'no f16 subgroup matrices of 16 × 16 and 32 threads';
};

const formats = { f16: 'f16', mxfp4: 'mxfp4', 'int4-g128': 'int4-g128-f16s' } as const;

interface Side {
  readonly storage: keyof typeof formats;
  readonly contiguous: OperandAxis;
}

/** What the kernel binds of an operand. MXFP4: exponents are taken as they are. */
function parts({ data }: QTensor, { storage, contiguous }: Side): ArrayBufferView[] {
  if (storage === 'f16') return [contiguous === 'k' ? data.codes : columns16(data)];
  return [data.codes, data.scales];
}

function version(n: number, name: string, a: Side, b: Side, shape: SubgroupTile): Version {
  const weight = packed([n, n], 2, formats[b.storage]);
  const kernel: Text = {
    ...subgroupMatmul({ M: n, N: n, K: n, a, b, tile: shape }),
    operands: ({ params: { x, w } }) => [...parts(x as QTensor, a), ...parts(w as QTensor, b)],
  };
  return {
    name: `${name}, ${print(shape)}`,
    needs,
    kernel,
    job: (rows): Job => ({
      params: { x: packed([rows, n], 1, formats[a.storage]), w: weight },
      body: ({ x, w }) => matmul(x, w, { transposeB: true }),
    }),
  };
}

/** MXFP4 weights decoded to f16 before the product, as ops do it where the other operand has many rows. */
const decodedFirst = (n: number): Version => {
  const weight = packed([n, n], 2, formats.mxfp4);
  return {
    name: 'mxfp4 weights, decoded first',
    needs,
    job: (rows) => ({
      params: { x: packed([rows, n], 1, 'f16'), w: weight },
      body: ({ x, w }) => matmul(x, w, { transposeB: true }),
    }),
  };
};

const k = { storage: 'f16', contiguous: 'k' } as const;
const outer = { storage: 'f16', contiguous: 'outer' } as const;
const mxfp4 = { storage: 'mxfp4', contiguous: 'k' } as const;
const int4 = { storage: 'int4-g128', contiguous: 'k' } as const;

const halves = (n: number): Omit<Family, 'name' | 'versions'> => ({
  unit: 'FLOP/s',
  work: 2 * n ** 3,
  rows: n,
  checked: 4,
  // f32 sums, in an order that the hardware chooses; int4 times its scale is rounded to f16
  tolerance: 1e-3,
  anchor: `f16-${n}`,
});

function halfFamily(n: number): Family {
  const fits = ({ blockM, blockN }: SubgroupTile) => n % blockM === 0 && n % blockN === 0;
  return {
    ...halves(n),
    name: `tensor cores f16 ${n}³`,
    versions: [
      ...shapes.filter(fits).map((shape) => version(n, 'NT', k, k, shape)),
      version(n, 'NN', k, outer, square),
      version(n, 'TN', outer, outer, square),
    ],
  };
}

function fourBitFamily(n: number): Family {
  return {
    ...halves(n),
    name: `tensor cores 4-bit ${n}³`,
    versions: [
      version(n, 'f16 NT', k, k, square),
      version(n, 'mxfp4 weights', k, mxfp4, square),
      version(n, 'int4-g128 weights', k, int4, square),
      decodedFirst(n),
      version(n, 'mxfp4 × mxfp4', mxfp4, mxfp4, square),
    ],
  };
}

/** Integers from −63 to 63 with scales of 1: their sums are exact in f32 as well. */
function integers(rows: number, cols: number, seed: number): QTensor {
  const format = parseFormat('int8-channel-f32s');
  const codes = Uint8Array.from(values([rows, cols], seed), (x) => Math.round(63 * x));
  const scales = new Uint8Array(new Float32Array(rows).fill(1).buffer);
  return qtensor([rows, cols], { format, rows, cols, codes, scales, zeroPoints: undefined, tensorScale: 1 });
}

function int8Family(n: number): Family {
  const weight = integers(n, n, 2);
  const job = (rows: number): Job => ({
    params: { x: integers(rows, n, 1), w: weight },
    body: ({ x, w }) => matmul(x, w, { transposeB: true }),
  });
  return {
    name: `tensor cores int8 ${n}³`,
    unit: 'FLOP/s',
    work: 2 * n ** 3,
    rows: n,
    checked: 4,
    tolerance: 0,
    anchor: `int8-${n}`,
    versions: [
      { name: 'int8 × int8, dp4a', job, without: ['chromium-experimental-subgroup-matrix'] },
      {
        name: 'int8 × int8, i8 matrices',
        job,
        needs: (gpu) => (integerFragmentsOf(gpu) ? undefined : 'no i8 subgroup matrices that kernels use'),
      },
    ],
  };
}

export const tensorCoreFamilies = (n: number): (() => Family)[] => [
  () => halfFamily(n),
  () => fourBitFamily(n),
  () => int8Family(n),
];
