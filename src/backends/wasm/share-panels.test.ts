import { afterAll, beforeAll, expect, it } from 'vitest';
import { quantize as round } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Graph } from '../../graph/graph.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { quantize } from '../../graph/ops/quantize.ts';
import { trace } from '../../graph/trace.ts';
import { f32, packed } from '../../graph/value-type.ts';
import { qtensor } from '../../tensor/tensor.ts';
import { gaussian } from '../op-case.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';
import { sharePanels } from './share-panels.ts';

let backends: WasmBackend[];
beforeAll(async () => {
  backends = [await createWasmBackend({ threads: 1 }), await createWasmBackend({ threads: 2 })];
});
afterAll(() => backends.forEach((backend) => void backend.dispose()));

const [M, K] = [13, 256];
/** Rows and format of each weight. */
const weights = { q: [20, 'mxfp4'], k: [9, 'mxfp4'], v: [24, 'mxfp4'], other: [8, 'int8-token'] } as const;
type Name = keyof typeof weights;
const names = Object.keys(weights) as Name[];

/** x · wᵀ of the named weights on one rounding of x. */
const products = (chosen: readonly Name[]): Graph =>
  trace((g) => {
    const x = quantize(g.input('x', f32([M, K])), parseFormat('mxfp4'));
    for (const name of chosen) {
      const [rows, format] = weights[name];
      const w = g.param(name, packed([rows, K], parseFormat(format)));
      g.output(`of ${name}`, matmul(x, w, { transposeB: true }));
    }
  });

async function run(backend: WasmBackend, chosen: readonly Name[]): Promise<Map<Name, unknown>> {
  const params = new Map();
  for (const name of chosen) {
    const [rows, format] = weights[name];
    const q = round(gaussian(names.indexOf(name), [rows, K]), rows, K, parseFormat(format));
    params.set(name, await backend.upload(qtensor([rows, K], q)));
  }
  const executable = await backend.compile(products(chosen), { params });
  executable.write('x', gaussian(7, [M, K]));
  executable.run();
  const results = new Map<Name, unknown>();
  for (const name of chosen) results.set(name, (await executable.read(`of ${name}`)).data);
  executable.dispose();
  return results;
}

const panels = (graph: Graph) => graph.nodes.filter((node) => node.op.name === 'integerPanels');

it('products with one kind of panel get them from one node, before the first', () => {
  const graph = sharePanels(products(names));
  expect(graph.nodes.map((node) => node.op.name)).toEqual([
    ...['quantize', 'integerPanels', 'matmul', 'matmul', 'matmul', 'matmul'],
  ]);
  const [made] = panels(graph);
  const readers = graph.nodes.filter((node) => node.inputs[2] === made.outputs[0]);
  expect(readers.map((node) => node.inputs[1].name)).toEqual(['q', 'k', 'v']);
});

it('a product on its own keeps its panels to itself', () => {
  expect(panels(sharePanels(products(['q', 'other'])))).toEqual([]);
});

it('gives the bits of each product alone', async () => {
  for (const backend of backends) {
    const together = await run(backend, names);
    for (const name of names) expect(together.get(name), name).toEqual((await run(backend, [name])).get(name));
  }
});
