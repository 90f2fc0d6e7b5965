// Whole decoders: the derivative of the mean loss along a random direction of every parameter, against central
// differences in float64.

import { describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Buffer } from '../backends/backend.ts';
import { gaussian } from '../backends/op-case.ts';
import { referenceTensor } from '../backends/reference/buffer.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { decoderBody } from '../models/decoder.ts';
import { type LoadedDecoder, loadDecoder } from '../models/loaded.ts';
import { gradients } from './differentiate.ts';
import type { Graph } from './graph.ts';
import { crossEntropy } from './ops/cross-entropy.ts';
import { mean } from './ops/reduce.ts';
import { trace } from './trace.ts';
import { i32 } from './value-type.ts';

const [B, T] = [2, 5];
const small = { hidden_size: 32, intermediate_size: 24, vocab_size: 40 };
const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 17 + 3) % 40);
const targets = ids.map((_, i) => (i % T === T - 1 ? -1 : ids[i + 1]));

/** The mean loss and, unless `forwardOnly`, its gradients by all parameters as outputs `d <name>`. */
function lossGraph({ config, types }: LoadedDecoder, { forwardOnly = false, recompute = false } = {}): Graph {
  return trace((g) => {
    const input = g.input('ids', i32([B, T]));
    const { hidden, head } = decoderBody(g, config, { types }, input, { batch: B, tokens: T, mode: 'nll' });
    const loss = mean(crossEntropy(hidden, head, g.input('targets', i32([B * T]))));
    g.output('loss', loss);
    if (recompute) markLayers(g.graph);
    const params = [...g.graph.params];
    if (forwardOnly) return;
    const found = gradients(
      g,
      loss,
      params.map(([, value]) => value),
    );
    for (const [i, [name]] of params.entries()) g.output(`d ${name}`, found[i]);
  });
}

/** Every run of nodes with one layer path becomes a recomputed region. */
function markLayers({ nodes, regions }: Graph): void {
  for (let first = 0, end = 0; first < nodes.length; first = end) {
    while (end < nodes.length && nodes[end].scope === nodes[first].scope) end++;
    if (nodes[first].scope) regions.push({ first, end });
  }
}

const traits = [
  'llama, biases everywhere, llama3 rope (transformers 5)',
  'mistral, sliding window, tied',
  'mixtral, 4 experts, 2 a token',
];

describe('all parameters of a decoder, h = 2^-17 along unit directions, bound 1e-9', () => {
  it.each(traits)('%s', async (name) => {
    const backend = createReferenceBackend({ precision: 'f64' });
    const decoder = await loadDecoder(await tinyWeights(tinyModel({ ...tinyConfigs[name], ...small }, 3)), backend);
    const run = async (graph: Graph, params: ReadonlyMap<string, Buffer>) => {
      const executable = await backend.compile(graph, { params });
      executable.write('ids', ids);
      executable.write('targets', targets);
      executable.run();
      return executable;
    };
    const executable = await run(lossGraph(decoder), decoder.buffers);
    const forward = lossGraph(decoder, { forwardOnly: true });
    const h = 2 ** -17;
    expect(decoder.types.size).toBeGreaterThan(18);
    for (const [index, [param, buffer]] of [...decoder.buffers].entries()) {
      const tensor = referenceTensor(param, buffer);
      if (tensor.kind !== 'dense') throw new Error(`${param} is packed`);
      const { shape, data } = tensor;
      const direction = Float64Array.from(gaussian(100 + index, shape));
      const norm = Math.hypot(...direction);
      const lossAt = async (step: number) => {
        const moved = direction.map((u, i) => data[i] + (step * u) / norm);
        const upload = await backend.upload({ kind: 'dense', dtype: 'f64', shape, data: moved });
        const moving = await run(forward, new Map([...decoder.buffers, [param, upload]]));
        return (await moving.read('loss')).data[0];
      };
      const numeric = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
      const gradient = (await executable.read(`d ${param}`)).data;
      const exact = direction.reduce((sum, u, i) => sum + (u / norm) * gradient[i], 0);
      expect(Math.abs(exact), param).toBeGreaterThan(5e-4);
      expect(Math.abs(exact - numeric), param).toBeLessThan(1e-9);
    }
  });

  it('recomputed layers give the same bits in less memory', async () => {
    const backend = createReferenceBackend();
    const decoder = await loadDecoder(
      await tinyWeights(tinyModel({ ...tinyConfigs[traits[2]], ...small }, 3)),
      backend,
    );
    const runs = [];
    for (const recompute of [false, true]) {
      const graph = lossGraph(decoder, { recompute });
      const executable = await backend.compile(graph, { params: decoder.buffers });
      executable.write('ids', ids);
      executable.write('targets', targets);
      executable.run();
      const values = await Promise.all([...graph.outputs.keys()].map((output) => executable.read(output)));
      runs.push({ values, arenaBytes: executable.plan.arenaBytes });
    }
    expect(runs[1].values).toEqual(runs[0].values);
    expect(runs[1].arenaBytes).toBeLessThan(0.6 * runs[0].arenaBytes);
  });
});
