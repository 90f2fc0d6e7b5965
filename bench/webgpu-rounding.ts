// Families of quantizers: what is read is f32, what is written is packed; the bound is a copy of as many bytes.

import { copyKernel } from '../src/backends/webgpu/measure.ts';
import { quantizedBytes } from '../src/formats/format.ts';
import { parseFormat } from '../src/formats/registry.ts';
import type { Value } from '../src/graph/graph.ts';
import { hadamard } from '../src/graph/ops/hadamard.ts';
import { transpose } from '../src/graph/ops/layout.ts';
import { dequantize, quantize } from '../src/graph/ops/quantize.ts';
import { dense, firstColumns, packed } from './webgpu-data.ts';
import type { Family, Job, Version } from './webgpu-ladder.ts';

/** Rows of the largest tile that shares a scale. */
const tile = 128;

function roundingFamily(n: number): Family {
  const before = {
    rows: (x: Value) => x,
    hadamard: (x: Value) => hadamard(x, { blockSize: 32 }),
    columns: (x: Value) => transpose(x, [1, 0]),
    both: (x: Value) => hadamard(transpose(x, [1, 0]), { blockSize: 32 }),
  };
  const bytes = (format: string) => 4 * n * n + (n / tile) * quantizedBytes(packed([tile, n], 1, format).data);
  const version = (format: string, way: keyof typeof before = 'rows'): Version => {
    const spec = parseFormat(format);
    const turned = way === 'columns' || way === 'both';
    return {
      name:
        way === 'rows'
          ? format
          : `${format}, ${{ hadamard: 'Hadamard', columns: 'transposed', both: 'transposed, Hadamard' }[way]}`,
      work: bytes(format),
      checked: format.includes('tile') ? tile : undefined,
      job: (rows): Job => ({
        params: { x: turned ? firstColumns(dense([n, n], 1), rows) : dense([rows, n], 1) },
        body: ({ x }) => dequantize(quantize(before[way](x), spec, { seed: 3, stream: 1 })),
        uncounted: ['dequantize'],
      }),
    };
  };
  const copy: Version = {
    name: 'copy',
    work: 8 * n * n,
    job: (rows): Job => ({ params: { x: dense([rows, n], 1) }, body: ({ x }) => x }),
    kernel: copyKernel((n * n) / 4),
  };
  return {
    name: `quantize ${n} × ${n}`,
    unit: 'B/s',
    work: 8 * n * n,
    rows: n,
    checked: 4,
    tolerance: 0,
    anchor: 'copy',
    versions: [
      copy,
      ...['mxfp4', 'mxfp4-sr', 'nvfp4', 'mxfp8-e4m3', 'int8-token', 'int4-g128', 'fp8-e4m3-tile128x128'].map((f) =>
        version(f),
      ),
      version('mxfp4', 'hadamard'),
      version('mxfp4-sr', 'hadamard'),
      version('mxfp4', 'columns'),
      version('mxfp4', 'both'),
    ],
  };
}

export const roundingFamilies = (n: number): (() => Family)[] => [() => roundingFamily(n)];
