// Rotary position embedding, both pairings.
//
// Thread map: one thread for each pair of dimensions that is rotated and for each dimension that is not, of each row and
// head. The angle is reduced exactly (sinCosSource), so far positions are as accurate as near ones. No workgroup memory,
// no features.

import type { RopeAttributes } from '../../../graph/ops/rope.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type OpKernel, read, write } from '../kernel.ts';
import { mathSource, sinCosSource } from '../wgsl/math.ts';

const rope: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { style, magnitude } = node.attributes as unknown as RopeAttributes;
    const [x, positions, frequencies, y] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [B, T, H, D] = x.shape;
    const half = frequencies.shape[0];
    const work = D - half; // pairs, then single dimensions
    const [at, partner] = style === 'half' ? ['j', `${half}u + j`] : ['2u * j', '2u * j + 1u'];
    return [
      {
        bindings: { x: read(x), positions: read(positions), frequencies: read(frequencies), y: write(y) },
        words: { magnitude: { f32: magnitude } },
        ...forEachItem(
          B * T * H * work,
          (n) => `let j = i % ${work}u;
  let head = i / ${work}u;
  let first = head * ${D}u;
  if (j >= ${half}u) {
    ${n.y}[first + ${half}u + j] = ${n.x}[first + ${half}u + j];
    return;
  }
  let turn = cosSin(${n.positions}[head / ${H}u], ${n.frequencies}[j]) * words.magnitude;
  let u = ${n.x}[first + ${at}];
  let v = ${n.x}[first + ${partner}];
  ${n.y}[first + ${at}] = u * turn.x - v * turn.y;
  ${n.y}[first + ${partner}] = v * turn.x + u * turn.y;`,
          mathSource + sinCosSource,
        ),
      },
    ];
  },
};

export const ropeKernels: KernelTable = { rope };
