// The larger models of the zoo in llama.cpp: Llama (query and key rows in llama order, its own output matrix) and Mixtral
// (stacked experts). Protocol as in types.test.ts: one window of 512 tokens, every linear layer in the type.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createWasmBackend } from '../../src/backends/wasm/backend.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { exportGguf, openModel, ourPerplexity, zooModel } from './export-model.ts';
import { perplexity, runLlama } from './llama-cpp.ts';

const types = ['f16', 'q8_0', 'q4_0', 'mxfp4', 'nvfp4'];

for (const name of ['llama-16m', 'mixtral-9m']) {
  const folder = zooModel(name);
  describe.skipIf(!folder)(`${name}${folder ? '' : ' (skipped: no ../shared/zoo)'}`, () => {
    it(`has the same perplexity in llama.cpp within one percent: ${types.join(', ')}`, async () => {
      const model = await openModel(folder as string, 1);
      const out = await mkdtemp(join(tmpdir(), 'subbyte-zoo-'));
      const backend = await createWasmBackend({ threads: 1 });
      try {
        const files = types.map((type) => join(out, `${type}.gguf`));
        for (const [i, type] of types.entries()) await exportGguf(model, () => parseFormat(type), files[i]);
        const answers = await runLlama(files.map((file) => ({ file, windows: model.windows })));
        for (const [i, type] of types.entries()) {
          const ours = await ourPerplexity(files[i], model.windows, backend);
          const difference = perplexity(answers[i].nll) / ours - 1;
          expect(Math.abs(difference), type).toBeLessThan(type === 'f16' ? 1e-3 : 0.01);
        }
      } finally {
        backend.dispose();
        await model.close();
        await rm(out, { recursive: true, force: true });
      }
    }, 120_000);
  });
}
