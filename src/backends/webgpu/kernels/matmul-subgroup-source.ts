// Products on subgroup matrices by themselves, as texts with their own bindings: for timing and for checking the WGSL.

import type { KernelSource } from '../kernel-source.ts';
import type { OperandAxis } from './matmul-operand.ts';
import {
  type SubgroupTile,
  subgroupFeatures,
  subgroupGrid,
  subgroupParameters,
  subgroupProduct,
} from './matmul-subgroup.ts';
import { type IntegerTile, integerSubgroupProduct } from './matmul-subgroup-integer.ts';
import type { OperandStorage } from './operand-storage.ts';

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
    factors: () => ({
      prelude: '',
      body: sides.map(({ name }) => `let ${name}_factor = 1.0; let ${name}_exponent = -128;`).join(' '),
    }),
  });
  const declared = [...bindings, 'var<storage, read_write> c: array<f32>'];
  return { code: source(subgroupFeatures, declared, threads, prelude, body), workgroups: [count, 1, 1] };
}

/**
 * Product of int8 operands, C in i32. Bindings: A, B (four codes a u32, lowest byte first), C. Throws where K is no
 * multiple of 16.
 */
export function int8Matmul(M: number, N: number, K: number, tile: IntegerTile): KernelSource {
  if (K % 16) throw new Error(`matmul: rows of ${K} codes do not begin at whole vectors`);
  const { threads, count } = subgroupGrid({ M, N, tile });
  const { prelude, body } = integerSubgroupProduct({ M, N, K, tile, store: `c[m * ${N}u + n] = sum;` });
  const sixteen = ['a', 'b'].map(
    (name) => `fn ${name}Sixteen(row: u32, k: u32) -> vec4<u32> { return ${name}[(row * ${K}u + k) / 16u]; }`,
  );
  const declared = [
    ...['a', 'b'].map((name) => `var<storage, read> ${name}: array<vec4<u32>>`),
    'var<storage, read_write> c: array<i32>',
  ];
  const code = source(subgroupFeatures.slice(1), declared, threads, `${sixteen.join('\n')}${prelude}`, body);
  return { code, workgroups: [count, 1, 1] };
}

const source = (
  features: readonly string[],
  bindings: readonly string[],
  threads: number,
  prelude: string,
  body: string,
) => `${features.map((name) => `enable ${name};`).join(' ')}
${bindings.map((binding, i) => `@group(0) @binding(${i}) ${binding};`).join('\n')}
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
