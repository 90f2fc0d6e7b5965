// Memory plan: where every value of a graph lives, and how many bytes a run takes, before anything runs.
//
// Blocks (memory-blocks.ts) that are never alive together share addresses of one arena. Offsets are assigned greedily:
// largest block first, each at the lowest offset where no block with an overlapping lifetime lies ("greedy by size",
// Pisarchyk and Lee 2020, arXiv:2001.03288). `lowerBoundBytes`, the largest sum of blocks alive at one node, is what
// no assignment can go below.

import type { Graph, Node, Value } from './graph.ts';
import { liveNodes } from './live-nodes.ts';
import { type Block, findBlocks } from './memory-blocks.ts';
import { valueBytes } from './value-bytes.ts';

export interface PlanOptions {
  /** Bytes of a value in the backend's layout; the exact bytes of its type when absent. */
  bytesOf?: (value: Value) => number;
  /** Scratch memory that a node's kernel needs while it runs; none when absent. */
  workspaceBytes?: (node: Node) => number;
  /** Every block starts at a multiple of this and is rounded up to it. */
  alignment?: number;
  /**
   * The arena is several pieces of memory of this size (a multiple of the alignment): no block crosses from one into
   * the next. One piece when absent. Throws a plain Error when a block is larger.
   */
  segmentBytes?: number;
}

/** Where a value lies: in the arena at an offset, or in the memory of `root`, which exists outside the run. */
export interface Placement {
  readonly place: Block['place'];
  /** The value that the memory belongs to: the input, parameter, state or output, or the first value of the block. */
  readonly root: Value;
  /** Bytes from the start of the arena; 0 outside the arena. */
  readonly offset: number;
}

/** Satisfies the backends' MemoryPlan. */
export interface GraphPlan {
  /** The nodes to run, in order. */
  readonly nodes: readonly Node[];
  readonly placements: ReadonlyMap<Value, Placement>;
  /** Arena offset of each node's workspace. */
  readonly workspaces: ReadonlyMap<Node, number>;
  readonly arenaBytes: number;
  /** Parameters and constants. */
  readonly parameterBytes: number;
  readonly stateBytes: number;
  /** Inputs and outputs. */
  readonly boundaryBytes: number;
  readonly peakBytes: number;
  /** No arena can be smaller than this. */
  readonly lowerBoundBytes: number;
}

/**
 * Plans the memory of one run of a graph; all figures in bytes.
 *
 * Throws a SubbyteError when a node reads a state as it was before an update.
 *
 * @example planMemory(graph).peakBytes
 */
export function planMemory(graph: Graph, options: PlanOptions = {}): GraphPlan {
  const { bytesOf = (v) => valueBytes(v.type), workspaceBytes = () => 0, alignment = 64, segmentBytes } = options;
  const align = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
  const nodes = liveNodes(graph);
  const blockOf = findBlocks(graph, nodes, (v) => align(bytesOf(v)));
  const blocks = [...new Set(blockOf.values())];
  const workspaceBlocks = nodes.flatMap((node, t) => {
    const bytes = align(workspaceBytes(node));
    return bytes > 0 ? [{ node, birth: t, death: t, bytes }] : [];
  });
  const inArena = [...blocks.filter((b) => b.place === 'arena'), ...workspaceBlocks];
  const offsets = assignOffsets(inArena, segmentBytes);

  const total = (...places: Block['place'][]) =>
    blocks.reduce((sum, b) => sum + (places.includes(b.place) ? b.bytes : 0), 0);
  const arenaBytes = inArena.reduce((end, b) => Math.max(end, offsets.get(b)! + b.bytes), 0);
  const parameterBytes = total('param', 'constant');
  const stateBytes = total('state');
  const boundaryBytes = total('input', 'output');
  return {
    nodes,
    placements: new Map(
      [...blockOf].map(([v, b]) => [v, { place: b.place, root: b.root, offset: offsets.get(b) ?? 0 }]),
    ),
    workspaces: new Map(workspaceBlocks.map((b) => [b.node, offsets.get(b)!])),
    arenaBytes,
    parameterBytes,
    stateBytes,
    boundaryBytes,
    peakBytes: arenaBytes + parameterBytes + stateBytes + boundaryBytes,
    lowerBoundBytes: largestLiveSum(inArena, nodes.length),
  };
}

interface Interval {
  readonly birth: number;
  readonly death: number;
  readonly bytes: number;
}

/**
 * Greedy by size: offsets such that no two intervals that overlap in time overlap in memory, and none crosses a multiple
 * of `segmentBytes`.
 */
export function assignOffsets<T extends Interval>(
  intervals: readonly T[],
  segmentBytes = Number.MAX_SAFE_INTEGER,
): Map<T, number> {
  const offsets = new Map<T, number>();
  const placed: T[] = []; // ascending by offset
  for (const item of [...intervals].sort((a, b) => b.bytes - a.bytes || a.birth - b.birth)) {
    if (item.bytes > segmentBytes)
      throw new Error(`plan: ${item.bytes} bytes do not fit into segments of ${segmentBytes}`);
    let offset = 0;
    for (const other of placed) {
      if (other.death < item.birth || item.death < other.birth) continue;
      const start = offsets.get(other)!;
      if (start >= offset + item.bytes) break;
      offset = Math.max(offset, start + other.bytes);
      const rest = segmentBytes - (offset % segmentBytes);
      if (rest < item.bytes) offset += rest;
    }
    offsets.set(item, offset);
    const at = placed.findIndex((other) => offsets.get(other)! > offset);
    placed.splice(at < 0 ? placed.length : at, 0, item);
  }
  return offsets;
}

function largestLiveSum(intervals: readonly Interval[], steps: number): number {
  const change = new Float64Array(steps + 1);
  for (const { birth, death, bytes } of intervals) {
    change[birth] += bytes;
    change[death + 1] -= bytes;
  }
  let live = 0;
  return change.reduce((most, delta) => Math.max(most, (live += delta)), 0);
}
