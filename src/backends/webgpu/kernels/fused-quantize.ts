// A chain of dequantize, transpose, block Hadamard transform and quantize as one pass over the data: the bytes of the ops
// one after another, without their f32 values in memory.
//
//   fused    decode → transpose through workgroup memory → butterflies → statistics → scale → codes, bits
//   largest  for a scale of the whole tensor, before: the same up to the statistics, one maximum a workgroup, then one of all
//   pack     where scales of one byte or two from several workgroups share a word: fused leaves them in scratch
//
// Thread map: 128 threads (64 where workgroup memory is small), each of which holds 32 values along K in registers (fused-tile.ts): a block of 32, its bits and
// one 16-byte store of four-bit codes. Longer blocks and groups belong to threads next to each other. Workgroup memory: 17
// KB for the values, up to 2 KB for scales and statistics. No features.

import { integerUnit } from '../../../formats/element.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { elementBits } from '../../../formats/table.ts';
import type { Node } from '../../../graph/graph.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import type { GpuTraits } from '../device.ts';
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
  rowsAndColumns,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { valueSource } from '../wgsl/bits.ts';
import { decodeSource, unfusedSource } from '../wgsl/decode.ts';
import { encodeSource, fixedTensorScale, hasEncoder, readsTile, tensorScaleDivisor } from '../wgsl/encode.ts';
import { fp4Source, hasFp4Search } from '../wgsl/encode-fp4.ts';
import { divisionSource } from '../wgsl/rounding.ts';
import { eachVector, heldValues, heldVectors } from '../wgsl/turn.ts';
import {
  type FusedTile,
  keepStatements,
  longestBlock,
  signsType,
  sourceType,
  tileBytes,
  tileCount,
  tileSource,
  tileStatements,
  tileValueSource,
} from './fused-tile.ts';

/** Threads of a workgroup: as many as its memory holds the values, statistics and scales of, at most 128. */
export const fusedThreads = ({ workgroupBytes }: GpuTraits): number =>
  tileBytes(128) + 16 * 128 <= workgroupBytes ? 128 : 64;

/** What the texts of a node follow from. */
interface Shape {
  readonly spec: QuantSpec;
  readonly tile: Omit<FusedTile, 'source'>;
  /** Values along K that share a scale; 0: the whole tensor does. */
  readonly group: number;
  /** Scales of a chunk, and chunks of a scale. */
  readonly perChunk: number;
  readonly share: number;
  /** Whether every word of scales is written by one workgroup. */
  readonly whole: boolean;
  /** Whether the largest magnitude of the tensor is needed first. */
  readonly amax: boolean;
  readonly groups: number;
}

/** The kernel's view of a quantization to `spec`, undefined where it does not apply. */
function shapeOf(
  spec: QuantSpec,
  rows: number,
  cols: number,
  { transposed, blockSize, signs, threads }: Pick<FusedQuantizeAttributes, 'transposed' | 'blockSize' | 'signs' | 'threads'>,
): Shape | undefined {
  const longest = longestBlock(transposed, threads);
  const { tileRows, tileCols } = scaleLayout(spec.granularity, rows, cols);
  const tensor = spec.granularity.kind === 'tensor';
  const group = tensor ? 0 : tileCols;
  const bits = elementBits(spec.element);
  const plain = spec.zeroPoint === 'none' && spec.range !== 'signed-max' && hasEncoder(spec);
  const known = spec.scale.format === 'e8m0' || spec.scale.rule === 'absmax' || readsTile(spec);
  const fits =
    tensor || (tileRows === 1 && group >= 16 && group <= longest && Number.isInteger(Math.log2(group)) && cols % group === 0);
  const turns = blockSize === 1 ? signs === 'none' : blockSize >= 4 && blockSize <= longest;
  if (!plain || !known || !fits || !turns || cols % heldValues !== 0 || (bits !== 4 && bits !== 8)) return;
  const bytes = scaleBytes(spec.scale.format);
  const chunks = transposed ? 4 : threads;
  const aligned = !transposed || ((cols / group) * bytes) % 4 === 0;
  return {
    spec,
    tile: { transposed, rows, cols, blockSize, signs, threads },
    group,
    perChunk: tensor ? 1 : Math.max(1, heldValues / group),
    share: Math.max(1, group / heldValues),
    whole: tensor || bytes === 4 || (((chunks * heldValues) / group) * bytes % 4 === 0 && aligned),
    amax: tensor || fixedTensorScale(spec) === undefined,
    groups: tensor ? 1 : (rows * cols) / group,
  };
}

/** Whether the fused kernel makes a matrix [rows, cols] of `spec` along such a chain. */
export const canFuse = (...chain: Parameters<typeof shapeOf>): boolean => shapeOf(...chain) !== undefined;

function shapeOfNode({ attributes, outputs }: Node): Shape {
  const { format, ...chain } = attributes as unknown as FusedQuantizeAttributes;
  const shape = format.kind === 'quant' && shapeOf(format, ...rowsAndColumns(outputs[0].type.shape), chain);
  if (!shape) throw new Error('webgpu: a chain was fused that no kernel runs');
  return shape;
}

/** Words of scratch memory: partial maxima, the largest, scales. */
const scratchWords = ({ tile, amax, whole, groups }: Shape): number[] => [
  amax ? tileCount(tile) : 0,
  amax ? 1 : 0,
  whole ? 0 : groups,
];

interface Parts {
  readonly shape: Shape;
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
    scratch: scratchSize(scratchWords(shape)) > 0 ? cutScratch(context.scratch, scratchWords(shape)) : [],
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

/** Leaves the bits of the largest magnitude in scratch and the second-level scale, if it follows from it, in y. */
function largest(parts: Parts): Command[] {
  const { shape, tile, scratch, bindings, words, scales, tensorScaleAt } = parts;
  const { spec } = shape;
  const count = tileCount(tile);
  const partial = (n: Names) => `${tileStatements(tile, n)}
  var all = vec4u();
  ${eachVector((v) => `all = max(all, bitcast<vec4u>(${v}) & vec4u(0x7fffffffu));`)}
  let own = largestOf(thread, select(0u, max(max(all.x, all.y), max(all.z, all.w)), alive));
  if (thread == 0u) { ${n.maxima}[item] = own; }`;
  const second = fixedTensorScale(spec) === undefined;
  const whole = (n: Names) => `var own = 0u;
  for (var i = thread; i < words.count; i += 256u) { own = max(own, ${n.maxima}[i]); }
  own = largestOf(thread, own);
  if (thread == 0u) {
    if (own >= 0x7f800000u) { report(${nonFiniteError}u, 0); own = 0u; }
    ${n.largest}[0] = own;
    ${
      second
        ? `let g = divided(own, bitcast<u32>(words.divisor));
    ${n.scales}[${tensorScaleAt}u] = select(g, bitcast<u32>(1.0), g == 0u);`
        : ''
    }
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
        ...(second && { scales }),
      },
      words: { count, ...(second && { divisor: { f32: tensorScaleDivisor(spec) } }) },
      reports: true,
      ...forEachGroup(1, 256, whole, largestSource(256) + divisionSource),
    },
  ];
}

/** Which of a chunk's scales covers vector j. */
const scaleOf = ({ perChunk }: Shape, j: number) => Math.floor((j * perChunk) / heldVectors);

const eachScale = ({ perChunk }: Shape, text: (s: number) => string) =>
  Array.from({ length: perChunk }, (_, s) => text(s)).join('\n  ');

/** Statements that declare tile0 …, from the statistics of the values or of the tensor. */
function fit(shape: Shape, n: Names, g: string): string {
  const { spec, group, share } = shape;
  const gathered = `${eachScale(shape, (s) => `var own${s} = noStatistics();`)}
  ${eachVector((v, j) =>
    [0, 1, 2, 3]
      .map((k) => {
        const own = `own${scaleOf(shape, j)}`;
        const at = (4 * j + k) % Math.max(group, 1);
        return `${own} = gather(${own}, bitcast<u32>(${v}.${'xyzw'[k]}), ${share > 1 ? `thread % ${share}u * ${heldValues}u + ` : ''}${at}u);`;
      })
      .join(' '),
  )}
  ${
    share === 1
      ? ''
      : `parts[thread] = own0;
  workgroupBarrier();
  let first = thread - thread % ${share}u;
  own0 = parts[first];
  for (var k = 1u; k < ${share}u; k++) { own0 = join(own0, parts[first + k]); }`
  }
  ${eachScale(
    shape,
    (s) => `if (own${s}.amax >= 0x7f800000u) {
    if (alive) { report(${nonFiniteError}u, i32(chunk)); }
    own${s} = noStatistics();
  }`,
  )}`;
  const known = `var own0 = noStatistics();
  own0.amax = ${n.largest}[0];`;
  return `${group === 0 ? known : gathered}
  ${eachScale(shape, (s) => {
    const place = `groupFirst = vec2u(thread - thread % ${share}u, ${s * group}u);`;
    return `${readsTile(spec) ? place : ''} let tile${s} = fitTile(own${s}, ${g});`;
  })}`;
}

/** Statements that store the scales: whole words, or one after another in scratch. */
function storeScales(shape: Shape, n: Names): string {
  const { spec, group, perChunk, share, whole } = shape;
  const bytes = scaleBytes(spec.scale.format);
  if (group === 0) return `if (item == 0u && thread == 0u) { ${n.scales}[0] = tile0.code; }`;
  const index = perChunk > 1 ? `chunk * ${perChunk}u` : `chunk / ${share}u`;
  const first = share > 1 ? ` && thread % ${share}u == 0u` : '';
  if (bytes === 4 || !whole) {
    const array = whole ? n.scales : n.codes;
    return `if (alive${first}) { ${eachScale(shape, (s) => `${array}[${index} + ${s}u] = tile${s}.code;`)} }`;
  }
  const chunks = group / (8 * bytes);
  const word = Array.from({ length: 4 / bytes }, (_, k) => `(scaleCodes[at + ${k}u] << ${8 * bytes * k}u)`).join(' | ');
  const at = perChunk > 1 ? `thread * ${perChunk}u` : `thread / ${share}u`;
  return `{
    let at = ${at};
    ${eachScale(shape, (s) => `scaleCodes[at + ${s}u] = select(0u, tile${s}.code, alive);`)}
    workgroupBarrier();
    if (alive && thread % ${chunks}u == 0u) { ${n.scales}[chunk / ${chunks}u] = ${word}; }
  }`;
}

/** Statements that round v0 … v7 and store the codes as words. */
function storeCodes(shape: Shape, n: Names): string {
  const { spec } = shape;
  const four = (v: string, j: number, bits: number) => {
    const [s, element] = [scaleOf(shape, j), `chunk * ${heldValues}u + ${4 * j}u`];
    if (hasFp4Search(spec)) return `let four${j} = fp4Of(${v}, levels${s}, ${element});`;
    return `let codes${j} = codesOf(bitcast<vec4u>(${v}), tile${s}, ${element});
    let four${j} = codes${j}.x | (codes${j}.y << ${bits}u) | (codes${j}.z << ${2 * bits}u) | (codes${j}.w << ${3 * bits}u);`;
  };
  const bits = elementBits(spec.element);
  const words = bits === 8 ? [0, 1, 2, 3, 4, 5, 6, 7].map((j) => `four${j}`) : [0, 2, 4, 6].map((j) => `four${j} | (four${j + 1} << 16u)`);
  return `if (alive) {
    ${hasFp4Search(spec) ? eachScale(shape, (s) => `let levels${s} = levelsOf(tile${s}.step);`) : ''}
    ${eachVector((v, j) => four(v, j, bits))}
    ${words
      .flatMap((_, j) => (j % 4 === 0 ? [words.slice(j, j + 4)] : []))
      .map((vector, j, all) => `${n.y}[chunk * ${all.length}u + ${j}u] = vec4u(${vector.join(', ')});`)
      .join('\n    ')}
  }`;
}

/** Statements that store one bit for each value, 1 where |v| < fl(step · bound). */
const storeBits = (shape: Shape, n: Names) => `if (alive) {
    var marks = 0u;
    ${eachVector(
      (v, j) => `{ let m = select(vec4u(), vec4u(1u, 2u, 4u, 8u), abs(${v}) < vec4f(tile${scaleOf(shape, j)}.step * words.bound));
    marks |= (m.x | m.y | m.z | m.w) << ${4 * j}u; }`,
    )}
    ${n.bits}[chunk] = marks;
  }`;

function fused(parts: Parts): Command {
  const { shape, tile, context, bindings, words, scales, tensorScaleAt, scratch } = parts;
  const { spec, group, share, whole } = shape;
  const { node, inputs, outputs } = context;
  const { seed, stream, bound, signs } = node.attributes as unknown as FusedQuantizeAttributes;
  const { range, layout } = packedOperand(outputs, 0);
  const g = fixedTensorScale(spec);
  const random = spec.rounding === 'stochastic';
  const stepAt = signs === 'none' ? 1 : 2;
  const marked = outputs.length > 1 && bound !== undefined;
  const again = readsTile(spec);
  const prelude = (n: Names) => `${readSource(parts, n)}${encodeSource(spec, n.step)}${hasFp4Search(spec) ? fp4Source(spec) : ''}
${again ? tileValueSource(tile, group) : ''}
${share > 1 ? `var<workgroup> parts: array<Statistics, ${tile.threads}>;` : ''}
var<workgroup> scaleCodes: array<u32, ${tile.threads * shape.perChunk}>;
`;
  const body = (n: Names) => `${tileStatements(tile, n)}
  ${again ? `${eachVector((v) => `${v} = unfused(${v});`)}\n  ${keepStatements(tile)}` : ''}
  ${fit(shape, n, g === undefined ? `bitcast<f32>(${n.scales}[${tensorScaleAt}u])` : 'words.g')}
  ${g === undefined ? '' : `if (item == 0u && thread == 0u) { ${n.scales}[${tensorScaleAt}u] = bitcast<u32>(words.g); }`}
  ${storeScales(shape, n)}
  ${storeCodes(shape, n)}
  ${marked ? storeBits(shape, n) : ''}`;
  return {
    bindings: {
      ...bindings,
      y: { range: { ...range, bytes: layout.scales }, access: 'write', type: 'vec4<u32>' },
      scales,
      ...(random && inputs.length > stepAt && { step: read(inputs[stepAt]) }),
      ...(marked && { bits: write(dense(outputs, 1), 'u32') }),
      ...(group === 0 && { largest: fromScratch(scratch[1], 'u32') }),
      ...(!whole && { codes: toScratch(scratch[2], 'u32') }),
    },
    words: {
      ...words,
      ...(random && { seed, stream }),
      ...(g !== undefined && { g: { f32: g } }),
      ...(marked && { bound: { f32: bound / integerUnit(spec) } }),
    },
    reports: group > 0,
    ...forEachGroup(tileCount(tile), tile.threads, body, prelude),
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
  scratchBytes: (node) => scratchSize(scratchWords(shapeOfNode(node))),
  encode(context) {
    const parts = partsOf(context);
    const { amax, whole } = parts.shape;
    return [...(amax ? largest(parts) : []), fused(parts), ...(whole ? [] : [pack(parts)])];
  },
};
