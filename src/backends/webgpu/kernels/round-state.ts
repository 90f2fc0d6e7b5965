// roundToBf16: bits(w) + r with the low 16 bits cleared, r the highest 16 bits of the random number of an element.
//
// Thread map: a thread for two neighbouring weights, which share a block of random bits. No workgroup memory, no features.

import type { RoundStateAttributes } from '../../../graph/ops/round-state.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { randomSource } from '../wgsl/random.ts';

const roundToBf16: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { seed, stream } = node.attributes as unknown as RoundStateAttributes;
    const [step, weight] = [dense(inputs, 1), dense(outputs, 0)];
    const count = elementCount(weight.shape);
    const body = (n: Names) => `if (failed()) { return; }
  let random = randomBits(i) >> vec2u(16u);
  for (var k = 0u; k < 2u && 2u * i + k < ${count}u; k++) {
    let bits = ${n.weight}[2u * i + k];
    if ((bits & 0x7f800000u) != 0x7f800000u) { ${n.weight}[2u * i + k] = (bits + random[k]) & 0xffff0000u; }
  }`;
    return [
      {
        bindings: { weight: write(weight, 'u32'), step: read(step) },
        words: { seed, stream },
        reports: true,
        ...forEachItem(Math.ceil(count / 2), body, (n) => randomSource(n.step, 20)),
      },
    ];
  },
};

export const roundStateKernels: KernelTable = { roundToBf16 };
