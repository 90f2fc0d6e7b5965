// subbyte demo (`npm start`): the small model that ships with the project in formats from 8 to 3 bits, measured, as
// files that other programs load.

import { fileURLToPath } from 'node:url';
import { Option } from 'commander';
import { packageFile } from '../package-files.ts';
import { createRecipe } from '../quantize/recipe/recipe.ts';
import { openQuantizer, referenceQuantizer } from '../quantize/tensor-quantizer.ts';
import type { CommandDefinition } from './command.ts';
import { deviceOption, openBackend } from './device.ts';
import { loadTokens, openModel } from './open-model.ts';
import { runQuantize } from './quantize-run.ts';
import { printQuantizeTable } from './quantize-table.ts';
import type { QuantizeTarget } from './quantize-types.ts';

const shippedModel = fileURLToPath(packageFile('models/qwen3-6m'));
const tokens = 8192;
const window = 512;

const definition: CommandDefinition = {
  name: 'demo',
  summary: 'quantize the model that ships with subbyte to 8 … 3 bits and show what it costs',
  options: [new Option('-o, --out <folder>', 'where to write').default('out'), deviceOption()],
  examples: ['subbyte demo', 'npm start'],
  async run(session, _positionals, raw) {
    const started = performance.now();
    const model = await openModel(session, shippedModel);
    const quantizer = await openQuantizer({ threads: session.options.threads });
    const backend = await openBackend(session, raw.device as string);
    try {
      const text = await loadTokens(session, model, { tokens, window });
      const { weights } = model;
      const reference = referenceQuantizer();
      const context = { session, model, weights, quantizer, reference, backend, solving: undefined };
      const gguf = (format: string): QuantizeTarget => ({ format, containers: ['gguf'] });
      const folder = (format: string): QuantizeTarget => ({ format, containers: ['safetensors'] });
      const both = (format: string): QuantizeTarget => ({ format, containers: ['gguf', 'safetensors'] });
      const { entries } = await runQuantize(context, {
        targets: [
          ...['q8_0', 'q4_k_m', 'q3_k'].map(gguf),
          ...['int8-channel', 'int4-g64-asym', 'int4-g64'].map(folder),
          ...['mxfp4', 'nvfp4'].map(both),
        ],
        recipe: createRecipe(),
        memory: 0,
        profile: false,
        out: raw.out as string,
        name: 'qwen3-6m',
        verify: true,
        quality: { tokens: text.tokens, window },
      });
      printQuantizeTable(session, entries);
      session.print(
        `perplexity, KL to the original and top-1 agreement on ${text.tokens.length} tokens of ${window} a window; ${((performance.now() - started) / 1000).toFixed(0)} s in all`,
      );
      session.result({
        model: 'qwen3-6m',
        outputs: entries,
        protocol: { text: text.file, tokens: text.tokens.length, window },
      });
    } finally {
      quantizer.dispose();
      backend.dispose();
    }
  },
};

export default definition;
