// What each dispatch of a compiled graph costs, by GPU timestamps.
//
// Method: every dispatch gets a compute pass of its own, with a timestamp at its beginning and end. Passes cannot overlap
// as dispatches inside one pass may, so the sum is an upper bound of a run. Bytes are those of the bound memory, each
// binding once: what a kernel must move when it touches all it binds and reads nothing twice.
// Timestamps are rounded to 100 µs unless the device was opened without the toggle `timestamp_quantization`.

import { deviceError } from '../../errors.ts';
import type { Node } from '../../graph/graph.ts';
import { bufferUsage, mapRead } from './constants.ts';
import type { Command } from './kernel.ts';
import type { DeviceMemory } from './memory.ts';
import type { PlannedCommand } from './program.ts';

export interface CommandProfile {
  readonly node: Node;
  /** Number of the dispatch among those of its node, from 0. */
  readonly part: number;
  /** Which version of the op's kernel it is, where the kernel says so. */
  readonly label: string | undefined;
  readonly workgroups: Command['workgroups'];
  readonly microseconds: number;
  readonly bytes: number;
  /** Operations of the node, counted at its dearest dispatch; 0 at the others and where the op has no count. */
  readonly flops: number;
}

const queryResolve = 0x0200;
/** Dispatches of one query set, which holds at most 4096 timestamps. */
const perSet = 2048;
const bytesEach = 16;

/** Timestamps around dispatches: recorded with them, read once they are submitted. */
export interface DispatchTimer {
  /** The pass of dispatch number `i`. */
  pass(i: number): GPUComputePassDescriptor;
  /** Records the copy of all timestamps, after the last pass. */
  resolve(encoder: GPUCommandEncoder): void;
  /** Microseconds of every dispatch. */
  collect(): Promise<Float64Array>;
  dispose(): void;
}

/** Throws a device error where the adapter has no timestamps. */
export function openTimer(memory: DeviceMemory, count: number): DispatchTimer {
  const { device } = memory;
  if (!device.features.has('timestamp-query'))
    throw deviceError({
      code: 'webgpu-no-timestamps',
      op: 'profile',
      problem: 'this adapter has no timestamps (the feature timestamp-query)',
      fix: 'profile on another adapter',
    });
  const sets = Array.from({ length: Math.ceil(count / perSet) }, (_, s) =>
    device.createQuerySet({ type: 'timestamp', count: 2 * Math.min(perSet, count - s * perSet) }),
  );
  const bytes = Math.max(1, sets.length) * perSet * bytesEach;
  const resolved = memory.allocate(bytes, 'timestamps', queryResolve);
  const staging = memory.allocate(bytes, 'timestamps', bufferUsage.mapRead);
  return {
    pass: (i) => ({
      timestampWrites: {
        querySet: sets[Math.floor(i / perSet)],
        beginningOfPassWriteIndex: 2 * (i % perSet),
        endOfPassWriteIndex: 2 * (i % perSet) + 1,
      },
    }),
    resolve(encoder) {
      for (const [s, set] of sets.entries())
        encoder.resolveQuerySet(set, 0, set.count, resolved, s * perSet * bytesEach);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes);
    },
    async collect() {
      await staging.mapAsync(mapRead);
      const stamps = new BigInt64Array(staging.getMappedRange().slice(0));
      staging.unmap();
      return Float64Array.from({ length: count }, (_, i) => Number(stamps[2 * i + 1] - stamps[2 * i]) / 1000);
    },
    dispose() {
      for (const set of sets) set.destroy();
      for (const buffer of [resolved, staging]) memory.free(buffer);
    },
  };
}

/** Joins times with what the commands are. */
export function describeCommands(
  commands: readonly PlannedCommand[],
  microseconds: ArrayLike<number>,
): CommandProfile[] {
  const dearest = new Map<Node, number>();
  const parts = new Map<Node, number>();
  commands.forEach(({ node }, i) => {
    const best = dearest.get(node);
    if (best === undefined || microseconds[i] > microseconds[best]) dearest.set(node, i);
  });
  return commands.map(({ node, command }, i) => {
    const part = parts.get(node) ?? 0;
    parts.set(node, part + 1);
    const bindings = Object.values(command.bindings);
    const types = node.inputs.map(({ type }) => type);
    return {
      node,
      part,
      label: command.label,
      workgroups: command.workgroups,
      microseconds: microseconds[i],
      bytes: bindings.reduce((sum, { range }) => sum + range.bytes, 0),
      flops: dearest.get(node) === i ? (node.op.flops?.(types, node.attributes) ?? 0) : 0,
    };
  });
}
