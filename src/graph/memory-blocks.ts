// Which values share one piece of memory, and for how long it is in use.
//
// A block is a set of values in the same memory: a value, its views, its in-place updates, and elementwise results that
// take over the memory of an operand nobody reads afterwards. Blocks of inputs, parameters, states and constants exist
// outside the run; blocks with a graph output must survive it; all others live from `birth` to `death` (node indices,
// both included) and go into the arena.

import { userError } from '../errors.ts';
import { elementCount } from '../tensor/shape.ts';
import type { Graph, Node, Value } from './graph.ts';

export interface Block {
  /** The value that the memory was made for. */
  readonly root: Value;
  readonly place: 'input' | 'param' | 'state' | 'constant' | 'output' | 'arena';
  readonly bytes: number;
  readonly birth: number;
  death: number;
}

/** The block of every value that the live nodes touch. Throws when a state is read after its update. */
export function findBlocks(graph: Graph, nodes: readonly Node[], bytesOf: (v: Value) => number): Map<Value, Block> {
  const blocks = new Map<Value, Block>();
  const lastRead = viewLifetimes(graph, nodes);
  const outputs = outputRoots(graph, nodes);
  const declare = (place: Block['place'], values: Iterable<Value>) => {
    for (const v of values) blocks.set(v, { root: v, place, bytes: bytesOf(v), birth: -1, death: Infinity });
  };
  declare('input', graph.inputs.values());
  declare('param', graph.params.values());
  declare('state', graph.states.values());
  declare('constant', graph.constants.keys());
  nodes.forEach((node, t) => {
    node.outputs.forEach((v, i) => {
      const shared = node.op.inPlace?.[i];
      if (shared !== undefined) {
        blocks.set(v, blocks.get(node.inputs[shared])!);
        return;
      }
      const bytes = bytesOf(v);
      const isOutput = outputs.has(v);
      const death = Math.max(t, lastRead.get(v) ?? t);
      const taken = i === 0 && node.op.elementwise && !isOutput && takeOver(node, t, bytes, blocks);
      if (taken) taken.death = death;
      blocks.set(v, taken || { root: v, place: isOutput ? 'output' : 'arena', bytes, birth: t, death });
    });
  });
  checkUpdates(graph, nodes, blocks);
  return blocks;
}

/** The block of an operand that dies at node t and has the result's elements; one that is broadcast has fewer. */
function takeOver(node: Node, t: number, bytes: number, blocks: ReadonlyMap<Value, Block>): Block | undefined {
  const count = elementCount(node.outputs[0].type.shape);
  return node.inputs
    .filter((v) => elementCount(v.type.shape) === count)
    .map((v) => blocks.get(v)!)
    .find((block) => block.place === 'arena' && block.death === t && block.bytes === bytes);
}

/** The value whose memory v was before any elementwise reuse: v itself or the start of its chain of views. */
function viewRoots(nodes: readonly Node[]): Map<Value, Value> {
  const roots = new Map<Value, Value>();
  for (const node of nodes) {
    for (const [i, shared] of Object.entries(node.op.inPlace ?? {})) {
      const input = node.inputs[shared];
      roots.set(node.outputs[Number(i)], roots.get(input) ?? input);
    }
  }
  return roots;
}

/** The index of the last node that reads a value or one of its views. */
function viewLifetimes(graph: Graph, nodes: readonly Node[]): Map<Value, number> {
  const roots = viewRoots(nodes);
  const last = new Map<Value, number>();
  nodes.forEach((node, t) => {
    for (const v of node.inputs) last.set(roots.get(v) ?? v, t);
  });
  for (const v of graph.outputs.values()) last.set(roots.get(v) ?? v, Infinity);
  return last;
}

function outputRoots(graph: Graph, nodes: readonly Node[]): Set<Value> {
  const roots = viewRoots(nodes);
  return new Set([...graph.outputs.values()].map((v) => roots.get(v) ?? v));
}

/** Updates change states only, and nobody reads what a state held before its update. */
function checkUpdates(graph: Graph, nodes: readonly Node[], blocks: ReadonlyMap<Value, Block>): void {
  const updates = new Map<Block, number>();
  const versions = new Map<Value, number>();
  const check = (v: Value, reader: string) => {
    const block = blocks.get(v)!;
    if ((versions.get(v) ?? 0) === (updates.get(block) ?? 0)) return;
    throw userError({
      code: 'graph-stale-state',
      op: 'plan',
      problem: `${reader} reads state ${block.root.name} as it was before an update`,
      fix: 'read the value that the update returned',
    });
  };
  for (const node of nodes) {
    for (const v of node.inputs) check(v, node.outputs[0].name);
    for (const [i, shared] of Object.entries(node.op.inPlace ?? {})) {
      const block = blocks.get(node.inputs[shared])!;
      if (node.op.updates) {
        if (block.place !== 'state')
          throw userError({
            code: 'graph-update',
            op: 'plan',
            problem: `${node.outputs[0].name} updates memory that is no state`,
            got: `${block.place} ${block.root.name}`,
            fix: 'declare it with state()',
          });
        updates.set(block, (updates.get(block) ?? 0) + 1);
      }
      versions.set(node.outputs[Number(i)], updates.get(block) ?? 0);
    }
  }
  for (const [name, v] of graph.outputs) check(v, `output ${name}`);
}
