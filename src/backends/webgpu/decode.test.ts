// Packed values of every kind of format decode to the bits of the reference codec, whatever the widths.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { ggmlType, ggmlTypeNames } from '../../formats/ggml/types.ts';
import { parseFormat } from '../../formats/registry.ts';
import { dequantize } from '../../graph/ops/quantize.ts';
import { trace } from '../../graph/trace.ts';
import { packed } from '../../graph/value-type.ts';
import { packedTensor } from '../cases/common.ts';
import { differences, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();

const decoding = (format: string, rows: number, cols: number): OpCase => ({
  name: format,
  tolerance: 'exact',
  build: (g) => void g.output('y', dequantize(g.param('w', packed([rows, cols], parseFormat(format))))),
  params: { w: packedTensor(3, [rows, cols], format) },
  runs: [{}],
});

const cases: [format: string, cols: number][] = [
  ...ggmlTypeNames.map((type): [string, number] => [type, 2 * ggmlType(type).block]),
  ['f32', 5],
  ['f16', 9],
  ['bf16', 12],
  ['hif4', 128],
  ['int2-channel', 37],
  ['int3-g8', 40],
  ['int4-channel', 21],
  ['int4-g4', 12],
  ['int4-g6', 12],
  ['int4-g32-asym', 96],
  ['int5-tensor', 19],
  ['int6-g16-asymf', 48],
  ['int7-channel-half', 33],
  ['int8-tile2x3', 10],
  ['int8-g32-asymf', 64],
  ['int4-g128-f16s', 256],
  ['mxint8', 64],
  ['mxfp6-e2m3', 64],
  ['mxfp6-e3m2', 64],
  ['mxfp8-e5m2', 64],
  ['fp8-e4m3-tile1x128', 200],
  ['fp8-e5m2-channel', 30],
  ['mxfp4', 32],
  ['nvfp4-46-mse', 32],
  ['if4', 32],
  ['nf4-g64', 64],
  ['ternary-channel', 13],
];

describe.skipIf(!backend)(`decoding on webgpu${missing ? ` (${missing})` : ''}`, () => {
  const gpu = backend as WebgpuBackend;
  afterAll(() => gpu.dispose());

  it.each(cases)('%s, %i columns', async (format, cols) => {
    const opCase = decoding(format, 3, cols);
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
    expect(trace(opCase.build).nodes).toHaveLength(1);
  });
});
