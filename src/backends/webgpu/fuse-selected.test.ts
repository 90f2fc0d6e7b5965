// A clipping quantizer's gradient: bits select values, which a Hadamard transform then turns, as one kernel.

import { describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import type { Value } from '../../graph/graph.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { sgd } from '../../graph/ops/optimizers.ts';
import { selectBits } from '../../graph/ops/quantize.ts';
import { type GraphBuilder, trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { differences, gaussian, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { fuseSelected, selectedHadamardOp } from './fuse-selected.ts';

const [rows, K] = [5, 192];

function inputs(g: GraphBuilder): { x: Value; bits: Value } {
  return { x: g.input('x', f32([rows, K])), bits: g.input('bits', i32([rows, K / 32])) };
}
const chain = (blockSize: number) => (g: GraphBuilder) => {
  const { x, bits } = inputs(g);
  g.output('y', hadamard(selectBits(x, bits), { blockSize }));
};
const opsOf = (build: (g: GraphBuilder) => void) =>
  fuseSelected(trace(build)).nodes.map(({ op }) => ((op as object) === selectedHadamardOp ? 'fused' : op.name));

describe('what is fused', () => {
  it('is a selection that one transform alone reads', () => {
    expect(opsOf(chain(32))).toEqual(['fused']);
    expect(opsOf(chain(2))).toEqual(['selectBits', 'hadamard']);
    const shown = (g: GraphBuilder) => {
      const { x, bits } = inputs(g);
      const kept = selectBits(x, bits);
      g.output('kept', kept);
      g.output('y', hadamard(kept, { blockSize: 32 }));
    };
    expect(opsOf(shown)).toEqual(['selectBits', 'hadamard']);
    const signed = (g: GraphBuilder) => {
      const { x, bits } = inputs(g);
      g.output('y', hadamard(selectBits(x, bits), { blockSize: 32, signs: g.input('signs', f32([32])) }));
    };
    expect(opsOf(signed)).toEqual(['selectBits', 'hadamard']);
    const updated = (g: GraphBuilder) => {
      const w = g.state('w', f32([rows, K]));
      const kept = selectBits(w, g.input('bits', i32([rows, K / 32])));
      sgd(w, g.input('dw', f32([rows, K])), g.input('rate', f32([1])), { weightDecay: 0 });
      g.output('y', hadamard(kept, { blockSize: 32 }));
    };
    expect(opsOf(updated)).toEqual(['selectBits', 'sgd', 'hadamard']);
  });
});

const missing = missingGpu();
describe.skipIf(missing)(`on a GPU${missing ? ` (${missing})` : ''}`, () => {
  it.each([4, 32, 64])('computes what both ops do, blocks of %i', async (blockSize) => {
    const x = gaussian(1, [rows, K]);
    const bits = Int32Array.from({ length: (rows * K) / 32 }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
    // what no bit selects counts for nothing, whatever it is
    for (let i = 0; i < x.length; i++) if (((bits[i >> 5] >>> (i & 31)) & 1) === 0 && i % 7 === 0) x[i] = Number.NaN;
    const opCase: OpCase = { name: 'selected', tolerance: 1e-6, runs: [{ x, bits }], build: chain(blockSize) };
    const [fused, apart] = [await createTestBackend(), await createTestBackend({ fuse: false })];
    const found = await runOpCase(fused, opCase);
    expect(found).toEqual(await runOpCase(apart, opCase));
    const wanted = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(found, wanted, opCase.tolerance)).toEqual([]);
    fused.dispose();
    apart.dispose();
  });
});
