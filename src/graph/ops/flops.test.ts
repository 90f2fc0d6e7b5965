import { expect, it } from 'vitest';
import { parseFormat } from '../../formats/registry.ts';
import type { OpDefinition, ValueType } from '../graph.ts';
import { f32, i32, packed } from '../value-type.ts';
import { attentionOp } from './attention.ts';
import { expertMatmulOp } from './expert-matmul.ts';
import { matmulOp } from './matmul.ts';

const flops = <A extends object>(op: OpDefinition<A>, types: ValueType[], attributes: A) =>
  op.flops?.(types, attributes);

it('counts two operations for each multiply-add', () => {
  const weight = packed([5, 32], parseFormat('mxfp4'));
  expect(flops(matmulOp, [f32([2, 3, 32]), weight], { transposeA: false, transposeB: true })).toBe(2 * 6 * 5 * 32);
  expect(flops(matmulOp, [f32([7, 4]), f32([7, 5])], { transposeA: true, transposeB: false })).toBe(2 * 4 * 5 * 7);
  const qkv = [f32([2, 3, 4, 8]), f32([2, 3, 2, 8]), f32([2, 3, 2, 8])];
  expect(flops(attentionOp, qkv, { scale: 1, causal: false, window: 0 })).toBe(2 * 2 * (2 * 4) * 9 * 8);
  // Of 9 query/key pairs 6 are on or below the diagonal.
  expect(flops(attentionOp, qkv, { scale: 1, causal: true, window: 0 })).toBe(2 * 2 * (2 * 4) * 6 * 8);
  expect(flops(expertMatmulOp, [f32([6, 8]), f32([3, 5, 8]), i32([6, 2])], {})).toBe(2 * 12 * 5 * 8);
});
