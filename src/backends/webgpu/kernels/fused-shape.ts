// What the texts of the fused quantizer follow from: format, shape and chain; and where it applies.

import type { QuantSpec } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { elementBits } from '../../../formats/table.ts';
import type { Node } from '../../../graph/graph.ts';
import type { GpuTraits } from '../device.ts';
import type { FusedQuantizeAttributes } from '../fused-quantize-op.ts';
import { rowsAndColumns } from '../kernel.ts';
import { fixedTensorScale, hasEncoder } from '../wgsl/encode.ts';
import { heldValues } from '../wgsl/turn.ts';
import { columnChunks, type FusedTile, longestBlock, tileBytes, tileCount } from './fused-tile.ts';
import { chosenKind } from './quantize-chosen.ts';

/** Threads of a workgroup: as many as its memory holds the values, statistics and scales of, at most 128. */
export const fusedThreads = ({ workgroupBytes }: GpuTraits): number =>
  tileBytes(128) + 16 * 128 <= workgroupBytes ? 128 : 64;

/** How values are read and what is done to them. */
type Chain = Pick<FusedQuantizeAttributes, 'transposed' | 'blockSize' | 'signs' | 'threads'>;

export interface FusedShape {
  /** What elements are rounded by; MS-EDEN's is that before its correction. */
  readonly spec: QuantSpec;
  readonly tile: Omit<FusedTile, 'source'>;
  /** Values along K that share a scale; 0: the whole tensor does. */
  readonly group: number;
  /** Scales of a chunk, and chunks of a scale. */
  readonly perChunk: number;
  readonly share: number;
  /** Scales in all. */
  readonly groups: number;
  /** Whether every word of scales is written by one workgroup. */
  readonly whole: boolean;
  /** Whether the largest magnitude of the tensor is needed first. */
  readonly amax: boolean;
  /** Scales corrected after rounding, by MS-EDEN. */
  readonly eden: boolean;
}

/** Whether a kernel of this kind rounds to a spec: symmetric, 4 or 8 bits, scales by rules that need one look. */
function knows(spec: QuantSpec): boolean {
  const bits = elementBits(spec.element);
  const plain = spec.zeroPoint === 'none' && spec.range !== 'signed-max' && (bits === 4 || bits === 8);
  return plain && (hasEncoder(spec) || chosenKind(spec) === 'eden');
}

function shapeOf(spec: QuantSpec, rows: number, cols: number, chain: Chain): FusedShape | undefined {
  const { transposed, blockSize, signs, threads } = chain;
  const longest = longestBlock(transposed, threads);
  const { tileRows, tileCols } = scaleLayout(spec.granularity, rows, cols);
  const tensor = spec.granularity.kind === 'tensor';
  const group = tensor ? 0 : tileCols;
  const power = Number.isInteger(Math.log2(group)) && group >= 16 && group <= longest;
  const groups = tensor || (tileRows === 1 && power && cols % group === 0);
  const turns = blockSize === 1 ? signs === 'none' : blockSize >= 4 && blockSize <= longest;
  const eden = chosenKind(spec) === 'eden';
  if (!knows(spec) || !groups || !turns || cols % heldValues !== 0 || (eden && group > heldValues)) return;
  const bytes = scaleBytes(spec.scale.format);
  const together = (((transposed ? columnChunks : threads) * heldValues) / group) * bytes;
  const aligned = !transposed || ((cols / group) * bytes) % 4 === 0;
  return {
    spec: eden ? { ...spec, scale: { ...spec.scale, rule: 'absmax' } } : spec,
    tile: { transposed, rows, cols, blockSize, signs, threads },
    group,
    perChunk: tensor ? 1 : Math.max(1, heldValues / group),
    share: Math.max(1, group / heldValues),
    groups: tensor ? 1 : (rows * cols) / group,
    whole: tensor || bytes === 4 || (together % 4 === 0 && aligned),
    amax: tensor || eden || fixedTensorScale(spec) === undefined,
    eden,
  };
}

/** Whether the fused kernel makes a matrix [rows, cols] of `spec` along such a chain. */
export const canFuse = (spec: QuantSpec, rows: number, cols: number, chain: Chain): boolean =>
  shapeOf(spec, rows, cols, chain) !== undefined;

export function shapeOfNode({ attributes, outputs }: Node): FusedShape {
  const { format, ...chain } = attributes as unknown as FusedQuantizeAttributes;
  const shape = format.kind === 'quant' && shapeOf(format, ...rowsAndColumns(outputs[0].type.shape), chain);
  if (!shape) throw new Error('webgpu: a chain was fused that no kernel runs');
  return shape;
}

/** Words of scratch memory: partial maxima; the largest and what follows from it; scales. */
export const fusedScratch = ({ tile, amax, whole, groups }: FusedShape): number[] => [
  amax ? tileCount(tile) : 0,
  amax ? 2 : 0,
  whole ? 0 : groups,
];
