// subbyte quantize: a checkpoint, smaller and still right.

import path from 'node:path';
import { Option } from 'commander';
import { userError } from '../errors.ts';
import { enforceGates, parseGate } from '../evaluate/gate.ts';
import { parseTensorRule } from '../quantize/rules.ts';
import { openQuantizer, referenceQuantizer } from '../quantize/tensor-quantizer.ts';
import { type CommandDefinition, parseList, parseRepeated } from './command.ts';
import { deviceOption, loadTokens, openBackend, openModel, type TextOptions, textOptions } from './open-model.ts';
import { type ContainerName, runQuantize } from './quantize-run.ts';
import { printQuantizeTable } from './quantize-table.ts';

interface QuantizeOptions extends TextOptions {
  format: string[];
  to?: string[];
  ggufType?: string;
  tensorType?: string[];
  exclude?: string[];
  out: string;
  name?: string;
  verify: boolean;
  eval: boolean;
  failIf?: string[];
  device: string;
}

const definition: CommandDefinition = {
  name: 'quantize',
  summary: 'quantize a checkpoint and write GGUF and safetensors that other programs load',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id']],
  options: [
    new Option('-f, --format <specs>', 'formats, separated by commas; see `subbyte formats`')
      .argParser(parseList)
      .makeOptionMandatory(),
    new Option('--to <containers>', 'gguf, safetensors (default: every one that holds the format)').argParser(parseTo),
    new Option('--gguf-type <type>', "type in the GGUF file instead of the format's own: q4_k, q4_k_m, q8_0, ..."),
    new Option('--tensor-type <pattern=spec>', "exception, repeatable: 'down_proj=q8_0'").argParser(parseRepeated),
    new Option('--exclude <glob>', "keep as stored, repeatable: '*.layers.0.*'").argParser(parseRepeated),
    new Option('-o, --out <folder>', 'where to write').default('out'),
    new Option('--name <text>', 'name of the model in file names and metadata (default: from the source)'),
    new Option('--no-verify', 'do not open and check what was written'),
    new Option('--no-eval', 'do not measure perplexity and divergence'),
    new Option('--fail-if <condition>', "exit with 4 when it holds: 'ppl>+5%', 'kl>0.05'").argParser(parseRepeated),
    ...textOptions(4096),
    deviceOption(),
  ],
  examples: [
    'subbyte quantize models/qwen3-6m --format mxfp4 --to gguf,safetensors --out out',
    "subbyte quantize models/qwen3-6m --format int4-g64-asym --tensor-type 'down_proj=int8-channel'",
    "subbyte quantize Qwen/Qwen3-0.6B --format q4_k_m --fail-if 'ppl>+5%' --json",
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as QuantizeOptions;
    const gates = (options.failIf ?? []).map(parseGate);
    checkName(options.name);
    const rules = (options.tensorType ?? []).map(parseTensorRule);
    const model = await openModel(session, reference);
    const quantizer = await openQuantizer({ threads: session.options.threads });
    const measure = options.eval || gates.length > 0;
    const backend = measure ? await openBackend(session, options.device) : undefined;
    try {
      const quality = measure ? await loadTokens(session, model, options) : undefined;
      const { entries, omitted } = await runQuantize(
        { session, model, quantizer, reference: referenceQuantizer(), backend },
        {
          targets: [...new Set(options.format)].map((format) => ({
            format,
            containers: options.to as ContainerName[] | undefined,
          })),
          ggufType: options.ggufType,
          rules,
          exclude: options.exclude ?? [],
          out: options.out,
          name: options.name ?? modelName(reference),
          verify: options.verify,
          quality: quality && { tokens: quality.tokens, window: options.window },
        },
      );
      printQuantizeTable(session, entries);
      session.result({
        model: reference,
        outputs: entries,
        omitted,
        protocol: quality && {
          text: quality.file,
          tokens: quality.tokens.length,
          window: options.window,
          precision: `weights as stored in the file, activations f32, ${backend?.description}`,
        },
      });
      for (const e of entries)
        enforceGates(gates, { ppl: e.perplexity, kl: e.kl, top1: e.top1 }, { ppl: e.originalPerplexity });
    } finally {
      quantizer.dispose();
      backend?.dispose();
      await model.checkpoint.close();
    }
  },
};

/** The name becomes part of file names in --out. */
function checkName(name: string | undefined): void {
  if (name === undefined || /^[^\s./\\][^/\\]*$/.test(name)) return;
  throw userError({
    code: 'bad-name',
    op: 'quantize',
    problem: '--name cannot be part of a file name',
    got: JSON.stringify(name),
    expected: 'no slashes and no dot in front',
    fix: '--out chooses the folder',
  });
}

function parseTo(text: string, previous: string[] | undefined): string[] {
  const list = parseList(text, previous);
  const wrong = list.find((name) => name !== 'gguf' && name !== 'safetensors');
  if (wrong === undefined) return list;
  throw userError({
    code: 'unknown-container',
    op: 'quantize',
    problem: 'there is no such container',
    got: JSON.stringify(wrong),
    expected: 'gguf, safetensors or both',
  });
}

/** `models/qwen3-6m/` → `qwen3-6m`, `hf:org/name@rev` → `name`, `x.gguf` → `x`. */
export function modelName(reference: string): string {
  const base = path.basename(reference.replace(/@[^/]*$/, '').replace(/[/\\]+$/, ''));
  return base.replace(/\.(gguf|safetensors)$/i, '') || 'model';
}

export default definition;
