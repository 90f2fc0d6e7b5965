// A graph as text, one line a value:
//
//   input  x: f32[2, 32]
//   param  w: mxfp4[4, 32]
//   %2 = matmul(x, w) {"transposeA":false,"transposeB":true} : f32[2, 4]   layers.0
//   output y = %2

import type { Format } from '../formats/format.ts';
import { formatName } from '../formats/registry.ts';
import type { Graph, Node, Value } from './graph.ts';
import { printType } from './value-type.ts';

/** Lists declarations, nodes in execution order and outputs. The same graph always prints the same text. */
export function printGraph(graph: Graph): string {
  const produced = new Set<Value>(graph.nodes.flatMap((node) => node.outputs));
  const name = (v: Value) => (produced.has(v) ? `%${v.id}` : v.name);
  const declare = (role: string, values: Iterable<Value>) =>
    [...values].map((v) => `${role.padEnd(8)} ${v.name}: ${printType(v.type)}`);
  return [
    ...declare('input', graph.inputs.values()),
    ...declare('param', graph.params.values()),
    ...declare('state', graph.states.values()),
    ...declare('constant', graph.constants.keys()),
    ...graph.nodes.map((node) => printNode(node, name)),
    ...[...graph.outputs].map(([label, v]) => `output   ${label} = ${name(v)}`),
  ].join('\n');
}

function printNode(node: Node, name: (v: Value) => string): string {
  const results = node.outputs.map(name).join(', ');
  const attributes = Object.keys(node.attributes).length > 0 ? ` ${JSON.stringify(node.attributes, shortFormat)}` : '';
  const types = node.outputs.map((v) => printType(v.type)).join(', ');
  const scope = node.scope ? `   ${node.scope}` : '';
  return `${results} = ${node.op.name}(${node.inputs.map(name).join(', ')})${attributes} : ${types}${scope}`;
}

/** Formats print by their names, as they do in types. */
function shortFormat(key: string, value: unknown): unknown {
  return key === 'format' ? formatName(value as Format) : value;
}
