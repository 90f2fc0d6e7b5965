// selectBits: values where their bit is 1, else 0.
//
// Thread map: a thread for four neighbouring values, which share a word of bits. The result may lie on the memory of x.
// Data moves as u32, so every bit of a value survives. No workgroup memory, no features.

import { elementCount } from '../../../tensor/shape.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';

const selectBits: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, bits, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const body = (
      n: Names,
    ) => `let four = (vec4u(${n.bits}[i >> 3u] >> (4u * (i & 7u))) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u);
  ${n.y}[i] = select(vec4u(), ${n.x}[i], four == vec4u(1u));`;
    return [
      {
        bindings: { x: read(x, 'vec4<u32>'), bits: read(bits, 'u32'), y: write(y, 'vec4<u32>') },
        ...forEachItem(elementCount(y.shape) / 4, body),
      },
    ];
  },
};

export const selectBitsKernels: KernelTable = { selectBits };
