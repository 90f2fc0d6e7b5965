// subbyte estimate: size and memory under formats, from headers alone.

import { Option } from 'commander';
import { SubbyteError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { countWeights, type ModelWeights } from '../models/weights.ts';
import { estimateModel } from '../quantize/estimate.ts';
import { planQuantization } from '../quantize/plan.ts';
import { parseTensorRule } from '../quantize/rules.ts';
import { elementCount } from '../tensor/shape.ts';
import { type CommandDefinition, parseCount, parseList, parseRepeated } from './command.ts';
import { parseTarget } from './format-target.ts';
import { openModel } from './open-model.ts';
import { humanBytes, humanCount } from './progress.ts';
import { renderTable } from './table.ts';

interface EstimateCommandOptions {
  format?: string[];
  tensorType?: string[];
  exclude?: string[];
  context: number;
  window: number;
}

const sizes: [bytes: number, name: string][] = [
  [4e9, 'browser tab, 4 GB'],
  [8e9, '8 GB'],
  [16e9, '16 GB'],
  [24e9, '24 GB'],
  [80e9, '80 GB'],
];

const definition: CommandDefinition = {
  name: 'estimate',
  summary: 'size and memory under formats, without reading weights',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id (only headers are fetched)']],
  options: [
    new Option('-f, --format <specs>', 'formats, separated by commas').argParser(parseList),
    new Option('--tensor-type <pattern=spec>', "exception, repeatable: 'down_proj=q8_0'").argParser(parseRepeated),
    new Option('--exclude <glob>', 'keep these tensors as stored, repeatable').argParser(parseRepeated),
    new Option('--context <n>', 'tokens in the KV cache').default(4096).argParser(parseCount),
    new Option('--window <n>', 'tokens of the prompt run at once').default(512).argParser(parseCount),
  ],
  examples: [
    'subbyte estimate models/qwen3-6m',
    'subbyte estimate Qwen/Qwen3-0.6B --format mxfp4,q4_k,int8-channel --context 8192',
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as EstimateCommandOptions;
    const model = await openModel(session, reference, { remote: true });
    const { weights, checkpoint } = model;
    const context = Math.max(1, Math.min(options.context, weights.config.maxPositions));
    const rules = (options.tensorType ?? []).map(parseTensorRule);
    const formatsOf = (name: string) => {
      const target = parseTarget(name, weights);
      const request = { label: name, seed: 0, rules, exclude: options.exclude, ...target };
      return planQuantization(weights, request).formats;
    };
    const estimateOne = (format: string, formats: ReadonlyMap<string, Format>) => {
      const e = estimateModel(weights, formats, { context, window: options.window, storedBytes });
      return { format, ...e, fits: sizes.find(([bytes]) => e.totalBytes < bytes)?.[1] ?? 'several GPUs' };
    };
    const names = options.format ?? ['q8_0', 'q6_k', 'q4_k', 'mxfp4', 'nvfp4', 'int4-g128', 'q3_k', 'q2_k'];
    const storedBytes = (name: string) => storedSize(checkpoint, weights, name);
    const entries = [estimateOne('as stored', new Map())];
    for (const name of names) {
      try {
        entries.push(estimateOne(name, formatsOf(name)));
      } catch (error) {
        // one format that K does not suit must not hide the others, unless it was asked for by name
        if (options.format || !(error instanceof SubbyteError)) throw error;
        session.note(`  left out     ${name}: ${error.details.problem}, ${error.details.got}`);
      }
    }
    const right = { align: 'right' as const };
    session.print(
      renderTable(
        [
          { title: 'format' },
          { title: 'bits/weight', ...right },
          { title: 'weights', ...right },
          { title: 'KV cache', ...right },
          { title: 'working', ...right },
          { title: 'total', ...right },
          { title: 'fits' },
        ],
        entries.map((e) => [
          e.format,
          e.bitsPerWeight.toFixed(3),
          humanBytes(e.weightBytes),
          humanBytes(e.cacheBytes),
          humanBytes(e.arenaBytes),
          humanBytes(e.totalBytes),
          e.fits,
        ]),
      ),
    );
    const weightsCount = countWeights(weights);
    session.print(
      `${humanCount(weightsCount)} weights; cache for ${context} tokens in f32; working memory for ${Math.min(options.window, context)} tokens at once`,
    );
    session.result({ model: reference, weights: weightsCount, context, window: options.window, formats: entries });
  },
};

/** Bytes of a tensor in its container; bf16 where the container's name for it is another. */
function storedSize(checkpoint: Checkpoint, weights: ModelWeights, name: string): number {
  return checkpoint.tensors.get(name)?.byteLength ?? 2 * elementCount(weights.shape(name));
}

export default definition;
