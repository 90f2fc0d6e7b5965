import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../test/fixtures/models/plain-forward.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { buildDecoder } from './decoder.ts';
import { loadDecoder } from './loaded.ts';

const T = 18;
const ids = Array.from({ length: T }, (_, i) => (i * 37 + 11) % 96);
const backends: Backend[] = [createReferenceBackend(), await createWasmBackend()];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

for (const backend of backends)
  describe(`decoder on ${backend.name}`, () => {
    for (const [name, config] of Object.entries(tinyConfigs))
      it(`agrees with plain loops: ${name}`, async () => {
        const model = tinyModel(config, 7);
        const decoder = await loadDecoder(await tinyWeights(model), backend);
        // The second sequence of the batch is other text: it must not leak into the first.
        const other = ids.map((id) => (id + 50) % 96);
        const graph = buildDecoder(decoder.config, decoder.types, { batch: 2, tokens: T, mode: 'logits' });
        const executable = await backend.compile(graph, { params: decoder.buffers });
        executable.write('ids', Int32Array.from([...ids, ...other]));
        await executable.run();
        const logits = (await executable.read('logits')).data;
        const expected = [...plainForward(model, ids), ...plainForward(model, other)];
        let worst = 0;
        let largest = 0;
        for (const [t, row] of expected.entries())
          for (const [v, value] of row.entries()) {
            worst = Math.max(worst, Math.abs(value - logits[t * 96 + v]));
            largest = Math.max(largest, Math.abs(value));
          }
        expect(largest).toBeGreaterThan(3); // the logits are not flat, so the comparison means something
        expect(worst).toBeLessThan(2e-4);

        const nllGraph = buildDecoder(decoder.config, decoder.types, { batch: 2, tokens: T, mode: 'nll' });
        const nll = await backend.compile(nllGraph, { params: decoder.buffers });
        nll.write('ids', Int32Array.from([...ids, ...other]));
        nll.write('targets', Int32Array.from([...ids.slice(1), -1, ...other.slice(1), -1]));
        await nll.run();
        const losses = (await nll.read('nll')).data;
        for (let t = 0; t < T; t++) {
          const total = expected[t].reduce((sum, v) => sum + Math.exp(v), 0);
          const wanted = t === T - 1 ? 0 : Math.log(total) - expected[t][ids[t + 1]];
          expect(losses[t]).toBeCloseTo(wanted, 4);
        }
        executable.dispose();
        nll.dispose();
        decoder.dispose();
      });
  });
