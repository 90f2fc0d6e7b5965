// What every backend checks before it compiles: bound memory fits the graph, and every op has a kernel.

import { userError } from '../errors.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { printType, sameType } from '../graph/value-type.ts';
import type { Bindings, Buffer } from './backend.ts';

/**
 * Checks that each parameter has a buffer of its type, and each bound state too (states without one are allocated by
 * the backend). Throws a SubbyteError that names the first one that does not fit.
 */
export function checkBindings(graph: Graph, bindings: Bindings): void {
  for (const [name, value] of graph.params) {
    const buffer = bindings.params.get(name);
    if (buffer) checkBuffer('parameter', name, value, buffer);
    else
      throw userError({
        code: 'unbound-parameter',
        op: 'compile',
        problem: `parameter ${name} is not bound`,
        expected: printType(value.type),
        fix: 'upload it and pass it in bindings.params',
      });
  }
  for (const [name, value] of graph.states) {
    const buffer = bindings.states?.get(name);
    if (buffer) checkBuffer('state', name, value, buffer);
  }
}

function checkBuffer(role: string, name: string, value: Value, buffer: Buffer): void {
  if (sameType(value.type, buffer.type)) return;
  throw userError({
    code: 'binding-type',
    op: 'compile',
    problem: `${role} ${name} is bound to memory of another type`,
    got: printType(buffer.type),
    expected: printType(value.type),
    fix: 'upload the tensor that the graph declares',
  });
}

/** Throws a SubbyteError that names the first op of the graph without a kernel. */
export function checkKernels(graph: Graph, backend: string, hasKernel: (op: string) => boolean): void {
  const missing = graph.nodes.find((node) => !hasKernel(node.op.name));
  if (!missing) return;
  throw userError({
    code: 'missing-kernel',
    op: missing.op.name,
    problem: `the ${backend} backend has no kernel for this op (${missing.outputs[0].name})`,
    fix: 'run the graph on another backend',
  });
}

/** Throws a SubbyteError when `length` values do not fill a graph input or output. */
export function checkLength(role: 'input' | 'output', name: string, length: number, expected: number): void {
  if (length === expected) return;
  throw userError({
    code: 'boundary-length',
    op: role === 'input' ? 'write' : 'read',
    problem: `${role} ${name} has another number of values`,
    got: length,
    expected,
    fix: 'match the shape that the graph was traced with',
  });
}

/** Looks a graph input or output up; throws a SubbyteError that lists the names there are. */
export function findBoundary(role: 'input' | 'output', name: string, values: ReadonlyMap<string, Value>): Value {
  const value = values.get(name);
  if (value) return value;
  throw userError({
    code: 'unknown-boundary',
    op: role === 'input' ? 'write' : 'read',
    problem: `the graph has no ${role} ${name}`,
    expected: `one of ${[...values.keys()].join(', ')}`,
  });
}
