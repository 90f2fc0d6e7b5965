// Attention on tensor cores: which nodes run there, and their operands as f16.
//
// Two commands go before the products (attention-tensor-cores.ts, attention-backward-tensor-cores.ts):
//   1. bounds: 256 workgroups an operand, each the largest magnitude of its share;
//   2. halves: every operand times a power of two that puts its largest magnitude into [2^14, 2^15), rounded to f16, with
//      the inverse factors beside them. Numbers 29 binades below the largest still have 11 bits.
// The copies are ordered for the products: [B, G, lines, D], a line being a query of one of the heads that share the key
// head (t · H/G + h), or a key. Lines are filled up with zeros, so that tiles need no limits.
// An infinity or NaN reaches more lines than the mask allows: its tile's, as 0 · NaN.
// A thread of `halves` moves eight numbers four times. Features: shader-f16.

import type { Node } from '../../../graph/graph.ts';
import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup } from '../entry.ts';
import { type Fragments, fragmentsOf } from '../fragments.ts';
import { type Command, type DenseOperand, type MemoryRange, type Names, read } from '../kernel.ts';
import { fromScratch, toScratch } from '../scratch.ts';
import { blockLines } from '../wgsl/attention-fragments.ts';
import { boundSource, boundWords, workgroupMaximum } from './matmul-bound.ts';

export interface AttentionShape extends AttentionAttributes {
  readonly T: number;
  readonly S: number;
  readonly H: number;
  readonly G: number;
  readonly D: number;
  /** Query heads of a key head, and query rows of one: T · heads. */
  readonly heads: number;
  readonly rows: number;
  /** Batches times key heads. */
  readonly pairs: number;
  /** Lines of the copies. */
  readonly queryLines: number;
  readonly keyLines: number;
  readonly fragments: Fragments;
  /** Bytes of workgroup memory. */
  readonly memory: number;
}

/** Multiplications below which launches cost more than tensor cores save. */
const fewest = 2 ** 21;
/** Lines up to the end of the last block, whatever the block; one of the blocks has the lines of a tile. */
const padded = (lines: number, fragments: Fragments) =>
  Math.max(...blockLines(fragments).map((block) => Math.ceil(lines / block) * block));

/** How the node runs on tensor cores; undefined where it does not. `operands`: how many inputs are no cache position. */
export function tensorAttentionShape(node: Node, gpu: GpuTraits, operands: number): AttentionShape | undefined {
  const fragments = fragmentsOf(gpu);
  if (gpu.tensorCores !== 'f16' || !fragments || node.inputs.length > operands) return undefined;
  const [B, T, H, D] = node.inputs[0].type.shape;
  const [, S, G] = node.inputs[1].type.shape;
  const heads = H / G;
  const rows = T * heads;
  if (D % 16 !== 0 || D > 128 || rows < 16 || S < 16 || B * G * rows * S * D < fewest) return undefined;
  const attributes = node.attributes as unknown as AttentionAttributes;
  const sizes = { T, S, H, G, D, heads, rows, pairs: B * G };
  const [queryLines, keyLines] = [padded(rows, fragments), padded(S, fragments)];
  return { ...attributes, ...sizes, queryLines, keyLines, fragments, memory: gpu.workgroupBytes };
}

/** Whose lines an operand has. */
export type LineKind = 'query' | 'key';

/** Words of scratch memory: bounds, inverse factors, then a copy of each operand. */
export function halfWords(shape: AttentionShape, kinds: readonly LineKind[]): number[] {
  const lines = (kind: LineKind) => (kind === 'query' ? shape.queryLines : shape.keyLines);
  return [boundWords * kinds.length, kinds.length, ...kinds.map((kind) => (shape.pairs * lines(kind) * shape.D) / 2)];
}

const threads = 256;
/** Eights that a thread converts. */
const turns = 4;

/** Fills the pieces of scratch that halfWords asks for. */
export function halfCommands(
  shape: AttentionShape,
  kinds: readonly LineKind[],
  operands: readonly DenseOperand[],
  [bounds, factors, ...halves]: readonly MemoryRange[],
): Command[] {
  const { D, G, pairs } = shape;
  const sources = Object.fromEntries(operands.map((operand, i) => [`x${i}`, read(operand, 'vec4<f32>')]));
  const cases = (of: (i: number) => string) => kinds.map((_, i) => `if (operand == ${i}u) { ${of(i)} }`).join(' else ');
  const sizes = kinds.map((kind) => {
    const [lines, used, heads] =
      kind === 'query' ? [shape.queryLines, shape.rows, shape.heads] : [shape.keyLines, shape.S, 1];
    const eights = (pairs * lines * D) / 8;
    return { lines, used, heads, eights, groups: Math.ceil(eights / (threads * turns)) };
  });
  // one binding for all copies: devices may have no more than eight
  const { buffer, offset } = halves[0];
  const starts = halves.map((range) => (range.offset - offset) / 16);
  const copies = { buffer, offset, bytes: halves.reduce((sum, { bytes }) => sum + bytes, 0) };
  const first = (i: number) => sizes.slice(0, i).reduce((sum, { groups }) => sum + groups, 0);
  const largest = (n: Names) => `let operand = item / ${boundWords}u;
  let part = item % ${boundWords}u;
  var most = 0u;
  ${cases((i) => {
    // four loads on the way at a time; beyond the end the last one again
    const count = (pairs * sizes[i].used * D) / 4;
    const step = boundWords * threads;
    const bits = (j: number) => `largest_of(bitcast<vec4<u32>>(${n[`x${i}`]}[min(i + ${j * step}u, ${count - 1}u)]))`;
    return `for (var i = part * ${threads}u + thread; i < ${count}u; i += ${4 * step}u) {
    most = max(most, max(max(${bits(0)}, ${bits(1)}), max(${bits(2)}, ${bits(3)})));
  }`;
  })}
  ${maximum.body}
  if (thread == 0u) { ${n.bounds}[item] = shared_most[0]; }`;
  const convert = (n: Names) => `var operand = 0u;
  var group = item;
  ${kinds.map((_, i) => (i > 0 ? `if (item >= ${first(i)}u) { operand = ${i}u; group = item - ${first(i)}u; }` : '')).join('\n  ')}
  var most = ${n.bounds}[operand * ${boundWords}u + thread];
  ${maximum.body}
  workgroupBarrier();
  let bits = shared_most[0];
  let exponent = select(clamp(141 - i32(bits >> 23u), -112, 126), 0, bits == 0u);
  let factor = bitcast<f32>(u32(127 + exponent) << 23u);
  if (group == 0u && thread == 0u) { ${n.factors}[operand] = bitcast<f32>(u32(127 - exponent) << 23u); }
  ${cases((i) => {
    const { lines, used, heads, eights } = sizes[i];
    return `for (var turn = 0u; turn < ${turns}u; turn++) {
    let at = (group * ${turns}u + turn) * ${threads}u + thread;
    let line = at / ${D / 8}u % ${lines}u;
    let pair = at / ${(D / 8) * lines}u;
    if (at < ${eights}u) {
      var low = vec4f();
      var high = vec4f();
      if (line < ${used}u) {
        let vector = ((pair / ${G}u * ${used / heads}u + line / ${heads}u) * ${G * heads}u + pair % ${G}u * ${heads}u + line % ${heads}u) * ${D / 4}u + at % ${D / 8}u * 2u;
        low = ${n[`x${i}`]}[vector] * factor;
        high = ${n[`x${i}`]}[vector + 1u] * factor;
      }
      ${n.copies}[${starts[i]}u + at] = halves(low, high);
    }
  }`;
  })}`;
  return [
    {
      bindings: { ...sources, bounds: toScratch(bounds, 'u32') },
      ...forEachGroup(kinds.length * boundWords, threads, largest, boundSource + maximum.declaration),
    },
    {
      bindings: {
        ...sources,
        bounds: fromScratch(bounds, 'u32'),
        factors: toScratch(factors),
        copies: toScratch(copies, 'vec4<u32>'),
      },
      enable: ['f16'],
      ...forEachGroup(first(kinds.length), threads, convert, halvesSource + maximum.declaration),
    },
  ];
}

const maximum = workgroupMaximum(threads);

/** Eight f16 of two vectors. */
export const halvesSource = `
fn half_two(x: vec2f) -> u32 { return bitcast<u32>(vec2<f16>(x)); }
fn halves(a: vec4f, b: vec4f) -> vec4<u32> {
  return vec4<u32>(half_two(a.xy), half_two(a.zw), half_two(b.xy), half_two(b.zw));
}
`;
