// Tables in every kind of storage.

import { parseFormat } from '../../formats/registry.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { packedTensor, weightFormats } from './common.ts';

export const embeddingCases: OpCase[] = [
  ...[undefined, ...weightFormats].map((format): OpCase => {
    const shape = [11, 64];
    return {
      name: `embedding ${format ?? 'dense'}`,
      tolerance: 'exact',
      build(g) {
        const table = g.param('table', format ? packed(shape, parseFormat(format)) : f32(shape));
        g.output('y', embedding(table, g.input('ids', i32([2, 3]))));
      },
      params: { table: format ? packedTensor(1, shape, format) : tensorF32(shape, gaussian(1, shape)) },
      runs: [{ ids: Int32Array.of(0, 10, 5, 5, 1, 9) }],
    };
  }),
  {
    name: 'embedding odd width',
    tolerance: 'exact',
    build: (g) => void g.output('y', embedding(g.input('table', f32([3, 7])), g.input('ids', i32([1])))),
    runs: [{ table: gaussian(2, [3, 7]), ids: Int32Array.of(2) }],
  },
];
