// The product on subgroup matrices by itself, as a text with its own bindings: for timing and for checking the WGSL.

import type { KernelSource } from '../kernel-source.ts';
import type { OperandAxis, OperandStorage } from './matmul-operand.ts';
import {
  type SubgroupTile,
  subgroupFeatures,
  subgroupGrid,
  subgroupParameters,
  subgroupProduct,
} from './matmul-subgroup.ts';

export interface SubgroupMatmul {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: { readonly storage: OperandStorage; readonly contiguous: OperandAxis };
  readonly b: { readonly storage: OperandStorage; readonly contiguous: OperandAxis };
  readonly tile: SubgroupTile;
}

const hasScales = (storage: OperandStorage) => storage.endsWith('fp4') || storage.startsWith('int4');

/** Bindings: those of A, those of B (numbers or codes, then scales), C, in this order from 0. No factors. */
export function subgroupMatmul({ a, b, ...rest }: SubgroupMatmul): KernelSource {
  const sides = [
    { name: 'a', ...a },
    { name: 'b', ...b },
  ];
  const bindings = sides.flatMap(({ name, storage }) => [
    `var<storage, read> ${name}: array<vec4<${storage === 'f32' ? 'f32' : 'u32'}>>`,
    ...(hasScales(storage)
      ? [`var<storage, read> ${name}_scales: array<${storage.endsWith('fp4') ? 'u32' : 'f16'}>`]
      : []),
  ]);
  const named = (name: string, side: SubgroupMatmul['a']) => ({ ...side, array: name, scales: `${name}_scales` });
  const { threads, count } = subgroupGrid(rest);
  const { prelude, body } = subgroupProduct({
    ...rest,
    a: named('a', a),
    b: named('b', b),
    c: 'c',
    setup: sides.map(({ name }) => `let ${name}_factor = 1.0; let ${name}_exponent = -128;`).join(' '),
  });
  const declared = [...bindings, 'var<storage, read_write> c: array<f32>'];
  const code = `${subgroupFeatures.map((name) => `enable ${name};`).join(' ')}
${declared.map((binding, i) => `@group(0) @binding(${i}) ${binding};`).join('\n')}
${prelude}
@compute @workgroup_size(${threads}) fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${subgroupParameters}) {
  let item = workgroup.x + grid.x * workgroup.y;
  ${body}
}
`;
  return { code, workgroups: [count, 1, 1] };
}
