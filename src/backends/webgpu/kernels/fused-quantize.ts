// A chain of dequantize, transpose, block Hadamard transform and quantize as one pass over the data: the bytes of the ops
// one after another, without their f32 values in memory.
//
//   fused    decode → transpose through workgroup memory → butterflies → statistics → scale → codes, bits
//   largest  for a scale of the whole tensor, before: the same up to the statistics, one maximum a workgroup, then one of all
//   pack     where scales of one byte or two from several workgroups share a word: fused leaves them in scratch
//
// Thread map: 128 threads (64 where workgroup memory is small), each of which holds 32 values along K in registers
// (fused-tile.ts): a block of 32, its bits and one 16-byte store of four-bit codes. Longer blocks and groups belong to
// threads next to each other. Workgroup memory: 17 KB for the values, up to 2 KB for scales and statistics. No features.
// fused-shape.ts says where it applies, fused-codes.ts has the rounding.

import { integerUnit } from '../../../formats/element.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import type { FusedQuantizeAttributes } from '../fused-quantize-op.ts';
import {
  type Binding,
  type Command,
  dense,
  type EncodeContext,
  type MemoryRange,
  type Names,
  type OpKernel,
  packedOperand,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { valueSource } from '../wgsl/bits.ts';
import { decodeSource, unfusedSource } from '../wgsl/decode.ts';
import { doubleSource } from '../wgsl/double.ts';
import { encodeSource, fixedTensorScale, readsTile, tensorScaleDivisor } from '../wgsl/encode.ts';
import { edenSource, edenTensor } from '../wgsl/encode-eden.ts';
import { divisionSource } from '../wgsl/rounding.ts';
import { fp4Source, hasFp4Search } from '../wgsl/search-fp4.ts';
import { eachVector } from '../wgsl/turn.ts';
import { fitScales, roundValues, storeBits, storeCodes, storeScales } from './fused-codes.ts';
import { type FusedShape, fusedScratch, shapeOfNode } from './fused-shape.ts';
import {
  type FusedTile,
  signsType,
  sourceType,
  tileCount,
  tileSource,
  tileStatements,
  tileValueSource,
} from './fused-tile.ts';
import { quotientLevel, type TensorLevel } from './quantize-tensor.ts';

interface Parts {
  readonly shape: FusedShape;
  readonly tile: FusedTile;
  readonly context: EncodeContext;
  /** Source and signs. */
  readonly bindings: Readonly<Record<string, Binding>>;
  readonly words: Readonly<Record<string, { f32: number }>>;
  /** Scales and second-level scale of the result, from `layout.scales` on. */
  readonly scales: Binding;
  readonly tensorScaleAt: number;
  readonly scratch: readonly MemoryRange[];
}

function partsOf(context: EncodeContext): Parts {
  const { node, inputs, outputs } = context;
  const shape = shapeOfNode(node);
  const tile: FusedTile = { ...shape.tile, source: inputs[0] };
  const { blockSize, signs } = tile;
  const { range, layout } = packedOperand(outputs, 0);
  const after = { buffer: range.buffer, offset: range.offset + layout.scales, bytes: range.bytes - layout.scales };
  return {
    shape,
    tile,
    context,
    bindings: {
      x: read(inputs[0], sourceType(tile)),
      ...(signs !== 'none' && { signs: read(inputs[1], signsType(tile)) }),
    },
    words: blockSize > 1 ? { factor: { f32: 1 / Math.sqrt(blockSize) } } : {},
    scales: { range: after, access: 'write', type: 'u32' },
    tensorScaleAt: (layout.tensorScale - layout.scales) / 4,
    scratch: scratchSize(fusedScratch(shape)) > 0 ? cutScratch(context.scratch, fusedScratch(shape)) : [],
  };
}

const readSource = ({ tile }: Parts, n: Names) =>
  (tile.source.dtype === 'packed'
    ? decodeSource([{ prefix: 'x', array: n.x, matrix: tile.source }])
    : valueSource + unfusedSource) + tileSource(tile);

/** `largestOf(thread, own)`: the maximum over a workgroup, right in thread 0. */
const largestSource = (threads: number) => `
var<workgroup> most: array<u32, ${threads}>;
fn largestOf(thread: u32, own: u32) -> u32 {
  most[thread] = own;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { most[thread] = max(most[thread], most[thread + half]); }
  }
  return most[0];
}
`;

/** What the largest magnitude of the tensor decides besides the scale of a whole tensor. */
function levelOf({ spec, eden }: FusedShape): TensorLevel | undefined {
  if (eden) return { prelude: doubleSource, statements: edenTensor };
  return fixedTensorScale(spec) === undefined ? quotientLevel(tensorScaleDivisor(spec)) : undefined;
}

/** Leaves the largest magnitude and what follows from it in scratch, and the second-level scale, if it does, in y. */
function largest(parts: Parts): Command[] {
  const { shape, tile, scratch, bindings, words, scales, tensorScaleAt } = parts;
  const count = tileCount(tile);
  const level = levelOf(shape);
  const partial = (n: Names) => `${tileStatements(tile, n)}
  var all = vec4u();
  ${eachVector((v) => `all = max(all, bitcast<vec4u>(${v}) & vec4u(0x7fffffffu));`)}
  let own = largestOf(thread, select(0u, max(max(all.x, all.y), max(all.z, all.w)), alive));
  if (thread == 0u) { ${n.maxima}[item] = own; }`;
  const second = (n: Names) => `${level?.statements}
    ${n.scales}[${tensorScaleAt}u] = g;
    ${n.largest}[1] = derived;`;
  const whole = (n: Names) => `var own = 0u;
  for (var i = thread; i < words.count; i += 256u) { own = max(own, ${n.maxima}[i]); }
  own = largestOf(thread, own);
  if (thread == 0u) {
    if (own >= 0x7f800000u) { report(${nonFiniteError}u, 0); own = 0u; }
    ${n.largest}[0] = own;
    ${level ? second(n) : ''}
  }`;
  return [
    {
      bindings: { ...bindings, maxima: toScratch(scratch[0], 'u32') },
      words,
      ...forEachGroup(count, tile.threads, partial, (n) => readSource(parts, n) + largestSource(tile.threads)),
    },
    {
      bindings: {
        maxima: fromScratch(scratch[0], 'u32'),
        largest: toScratch(scratch[1], 'u32'),
        ...(level && { scales }),
      },
      words: { count },
      reports: true,
      ...forEachGroup(1, 256, whole, largestSource(256) + divisionSource + (level?.prelude ?? '')),
    },
  ];
}

/** What the text declares before its entry point. */
function preludeOf(parts: Parts, n: Names): string {
  const { shape, tile } = parts;
  const { spec, group, share, perChunk, eden } = shape;
  const draws = eden || spec.rounding === 'stochastic';
  return `${readSource(parts, n)}${encodeSource(spec, n.step, draws)}${hasFp4Search(spec) ? fp4Source(spec) : ''}
${readsTile(spec) ? tileValueSource(tile, group) : ''}${eden ? edenSource(group) : ''}
${share > 1 ? `var<workgroup> parts: array<Statistics, ${tile.threads}>;` : ''}
var<workgroup> scaleCodes: array<u32, ${tile.threads * perChunk}>;
`;
}

function fused(parts: Parts): Command {
  const { shape, tile, context, bindings, words, scales, tensorScaleAt, scratch } = parts;
  const { spec, group, whole, eden } = shape;
  const { node, inputs, outputs } = context;
  const { seed, stream, bound, signs } = node.attributes as unknown as FusedQuantizeAttributes;
  const { range, layout } = packedOperand(outputs, 0);
  const known = fixedTensorScale(spec);
  const random = eden || spec.rounding === 'stochastic';
  const step = inputs[signs === 'none' ? 1 : 2];
  const marked = outputs.length > 1 && bound !== undefined;
  // MS-EDEN's sums over values must not be fused with the product before them
  const apart = eachVector((v) => `${v} = unfused(${v});`);
  const level = (n: Names) =>
    known === undefined
      ? `let g = bitcast<f32>(${n.scales}[${tensorScaleAt}u]);`
      : `let g = words.g;
  if (item == 0u && thread == 0u) { ${n.scales}[${tensorScaleAt}u] = bitcast<u32>(g); }`;
  const body = (n: Names) => `${tileStatements(tile, n)}
  ${eden ? apart : ''}
  ${level(n)}
  ${fitScales(shape, tile, n)}
  ${roundValues(shape)}
  ${storeCodes(shape, n)}
  ${marked ? storeBits(shape, n) : ''}
  ${storeScales(shape, n)}`;
  return {
    bindings: {
      ...bindings,
      y: { range: { ...range, bytes: layout.scales }, access: 'write', type: 'vec4<u32>' },
      scales,
      ...(random && step && { step: read(step) }),
      ...(marked && { bits: write(dense(outputs, 1), 'u32') }),
      ...((group === 0 || eden) && { largest: fromScratch(scratch[1], 'u32') }),
      ...(!whole && { codes: toScratch(scratch[2], 'u32') }),
    },
    words: {
      ...words,
      ...(random && { seed, stream }),
      ...(known !== undefined && { g: { f32: known } }),
      ...(marked && { bound: { f32: bound / integerUnit(spec) } }),
    },
    reports: group > 0,
    ...forEachGroup(tileCount(tile), tile.threads, body, (n) => preludeOf(parts, n)),
  };
}

/** Scales from scratch into words. */
function pack({ shape, scales, scratch }: Parts): Command {
  const bytes = scaleBytes(shape.spec.scale.format);
  const per = 4 / bytes;
  return {
    bindings: { codes: fromScratch(scratch[2], 'u32'), scales },
    words: { groups: shape.groups },
    ...forEachItem(
      Math.ceil(shape.groups / per),
      (n) => `var word = 0u;
  for (var k = 0u; k < ${per}u; k++) {
    let at = i * ${per}u + k;
    if (at < words.groups) { word |= ${n.codes}[at] << (${8 * bytes}u * k); }
  }
  ${n.scales}[i] = word;`,
    ),
  };
}

export const fusedQuantize: OpKernel = {
  scratchBytes: (node) => scratchSize(fusedScratch(shapeOfNode(node))),
  encode(context) {
    const parts = partsOf(context);
    const { amax, whole } = parts.shape;
    return [...(amax ? largest(parts) : []), fused(parts), ...(whole ? [] : [pack(parts)])];
  },
};
