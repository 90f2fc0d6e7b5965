// The plan is checked by running graphs on an owner map: every byte remembers which value was written to it last, and
// every read must find its value whole. Nothing of the planner's own liveness is used.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildRandom, randomSteps } from '../../test/support/random-graph.ts';
import { elementCount } from '../tensor/shape.ts';
import type { Graph, Node, Value } from './graph.ts';
import { affine } from './ops/affine.ts';
import { add } from './ops/arithmetic.ts';
import { cacheWrite } from './ops/cache-write.ts';
import { reshape } from './ops/layout.ts';
import { sum } from './ops/reduce.ts';
import { softmax } from './ops/softmax.ts';
import { assignOffsets, type GraphPlan, planMemory } from './plan.ts';
import { trace } from './trace.ts';
import { f32, i32 } from './value-type.ts';

const workspaceOf = (node: Node) => (node.op.name === 'softmax' ? 24 : 0);

/** Runs the plan on the owner map; returns a description of the first wrong read. */
function findWrongRead(graph: Graph, plan: GraphPlan): string | undefined {
  const arena = new Int32Array(plan.arenaBytes).fill(-1);
  const outside = new Map<Value, Int32Array>(); // memory by the value that owns it
  const content = new Map<Value, number>(); // what a reader of the value must find
  const memory = (v: Value) => {
    const { place, root, offset } = plan.placements.get(v)!;
    const bytes = 4 * elementCount(v.type.shape);
    if (place === 'arena') {
      if (offset + bytes > plan.arenaBytes) throw new Error(`${v.name} ends after the arena`);
      return arena.subarray(offset, offset + bytes);
    }
    if (!outside.has(root)) outside.set(root, new Int32Array(4 * elementCount(root.type.shape)).fill(-1));
    return outside.get(root)!.subarray(0, bytes);
  };
  const whole = (v: Value) => memory(v).every((owner) => owner === content.get(v));
  const write = (v: Value) => {
    content.set(v, v.id);
    memory(v).fill(v.id);
  };
  for (const v of [...graph.inputs.values(), ...graph.params.values(), ...graph.states.values()]) write(v);
  for (const node of plan.nodes) {
    const workspace = plan.workspaces.get(node);
    if (workspace !== undefined) arena.fill(-2, workspace, workspace + workspaceOf(node));
    for (const v of node.inputs) if (!whole(v)) return `${node.outputs[0].name} does not find ${v.name}`;
    node.outputs.forEach((v, i) => {
      const shared = node.op.inPlace?.[i];
      if (shared !== undefined && !node.op.updates) content.set(v, content.get(node.inputs[shared])!);
      else write(v);
    });
    for (const v of node.outputs) if (!whole(v)) return `results of ${v.name} overlap`;
    for (const v of node.inputs) {
      // An elementwise op may overwrite an operand that lies exactly under its result.
      const result = node.outputs[0];
      const same = elementCount(v.type.shape) === elementCount(result.type.shape);
      const under = node.op.elementwise && same && memory(v).byteOffset === memory(result).byteOffset;
      if (!under && !node.op.updates && !whole(v)) return `${result.name} destroys ${v.name}`;
    }
    if (workspace !== undefined && !arena.subarray(workspace, workspace + workspaceOf(node)).every((o) => o === -2))
      return `the workspace of ${node.outputs[0].name} is shared`;
  }
  for (const [name, v] of graph.outputs) if (!whole(v)) return `output ${name} is lost`;
  for (const v of [...graph.inputs.values(), ...graph.params.values()])
    if (!memory(v).every((owner) => owner === v.id)) return `${v.name} is overwritten`;
  return undefined;
}

describe('planMemory', () => {
  it('lets every read of a random graph find its value', () => {
    fc.assert(
      fc.property(
        randomSteps,
        fc.array(fc.nat(1000), { minLength: 1, maxLength: 3 }),
        fc.constantFrom(1, 16, 64),
        (steps, outputs, alignment) => {
          const graph = trace((g) => buildRandom(g, steps, outputs));
          const plan = planMemory(graph, { alignment, workspaceBytes: workspaceOf });
          expect(findWrongRead(graph, plan)).toBeUndefined();
          expect(plan.arenaBytes).toBeGreaterThanOrEqual(plan.lowerBoundBytes);
          for (const { offset } of plan.placements.values()) expect(offset % alignment).toBe(0);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('sees a wrong plan (the check itself works)', () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([4, 4]));
      g.output('y', add(softmax(x), softmax(softmax(x))));
    });
    const plan = planMemory(graph);
    const placements = new Map([...plan.placements].map(([v, p]) => [v, { ...p, offset: 0 }]));
    expect(findWrongRead(graph, { ...plan, placements })).toBe('softmax#2 destroys softmax#1');
  });

  it('runs an elementwise chain in one block and a chain of softmaxes in two', () => {
    const chain = (op: (v: Value) => Value) =>
      trace((g) => {
        let v = g.input('x', f32([16]));
        for (let i = 0; i < 9; i++) v = op(v);
        g.output('y', v);
      });
    // The last result is an output and lies outside the arena.
    expect(planMemory(chain((v) => affine(v, { scale: 2 }))).arenaBytes).toBe(64);
    expect(planMemory(chain(softmax)).arenaBytes).toBe(128);
  });

  it('counts parameters, constants, states, inputs and outputs, rounded up to 64 bytes', () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([1, 1, 1, 3]));
      const w = g.param('w', f32([17]));
      const cache = cacheWrite(g.state('cache', f32([1, 40, 1, 3])), x, g.input('start', i32([1])));
      g.output('cache', cache);
      g.output('y', add(sum(x), w));
    });
    const plan = planMemory(graph);
    expect(plan).toMatchObject({ parameterBytes: 128, stateBytes: 512, boundaryBytes: 64 + 64 + 128, arenaBytes: 64 });
    expect(plan.peakBytes).toBe(128 + 512 + 256 + 64);
  });

  it('refuses to read a state as it was before an update', () => {
    const graph = trace((g) => {
      const cache = g.state('cache', f32([1, 4, 1, 2]));
      const old = reshape(cache, [8]);
      cacheWrite(cache, g.input('x', f32([1, 1, 1, 2])), g.input('start', i32([1])));
      g.output('y', affine(old, { scale: 2 }));
    });
    expect(() => planMemory(graph)).toThrow(
      'plan: affine#2 reads state cache as it was before an update; read the value',
    );
  });

  it('refuses to update memory that is no state', () => {
    const graph = trace((g) => {
      const cache = g.input('cache', f32([1, 4, 1, 2]));
      g.output('y', cacheWrite(cache, g.input('x', f32([1, 1, 1, 2])), g.input('start', i32([1]))));
    });
    expect(() => planMemory(graph)).toThrow('plan: cacheWrite#0 updates memory that is no state, got input cache');
  });
});

describe('assignOffsets', () => {
  const interval = fc.record({ birth: fc.nat(12), length: fc.nat(5), bytes: fc.integer({ min: 1, max: 50 }) });

  it('never gives one address to two intervals that are alive together', () => {
    fc.assert(
      fc.property(fc.array(interval, { maxLength: 30 }), (raw) => {
        const items = raw.map(({ birth, length, bytes }) => ({ birth, death: birth + length, bytes }));
        const offsets = assignOffsets(items);
        for (let time = 0; time < 20; time++) {
          const alive = items.filter((i) => i.birth <= time && time <= i.death);
          alive.sort((a, b) => offsets.get(a)! - offsets.get(b)!);
          alive.slice(1).forEach((item, i) => {
            expect(offsets.get(item)!).toBeGreaterThanOrEqual(offsets.get(alive[i])! + alive[i].bytes);
          });
        }
      }),
    );
  });

  it('keeps every interval within a segment', () => {
    fc.assert(
      fc.property(fc.array(interval, { maxLength: 30 }), fc.integer({ min: 50, max: 120 }), (raw, segment) => {
        const items = raw.map(({ birth, length, bytes }) => ({ birth, death: birth + length, bytes }));
        const offsets = assignOffsets(items, segment);
        for (const item of items) {
          const at = offsets.get(item)!;
          expect(Math.floor(at / segment)).toBe(Math.floor((at + item.bytes - 1) / segment));
          for (const other of items) {
            const apart = other.death < item.birth || item.death < other.birth;
            const start = offsets.get(other)!;
            if (other !== item && !apart) expect(start >= at + item.bytes || at >= start + other.bytes).toBe(true);
          }
        }
      }),
    );
    expect(() => assignOffsets([{ birth: 0, death: 1, bytes: 65 }], 64)).toThrow('segments of 64');
  });
});
