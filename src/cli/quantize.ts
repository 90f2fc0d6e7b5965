// subbyte quantize: a checkpoint, smaller and still right.

import { freemem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Option } from 'commander';
import { userError } from '../errors.ts';
import { enforceGates, parseGate } from '../evaluate/gate.ts';
import { loadTokenizer } from '../io/tokenizer.ts';
import type { ModelWeights } from '../models/weights.ts';
import { packageFile } from '../package-files.ts';
import type { CalibrationWindows } from '../quantize/calibration/windows.ts';
import { transformModel } from '../quantize/methods/transform-model.ts';
import { recipeNotes } from '../quantize/recipe/notes.ts';
import { findStep, mergeRecipe, needsText, type Recipe } from '../quantize/recipe/recipe.ts';
import { openQuantizer, referenceQuantizer } from '../quantize/tensor-quantizer.ts';
import { type CommandDefinition, parseBytes, parseCount, parseList, parseRepeated } from './command.ts';
import { deviceOption, openBackend } from './device.ts';
import { loadTokens, type OpenedModel, openModel, sampleText, textOptions } from './open-model.ts';
import { type RecipeOptions, recipeOf, recipeOptions } from './quantize-recipe.ts';
import { printMethodReport } from './quantize-report.ts';
import { runQuantize } from './quantize-run.ts';
import { printQuantizeTable } from './quantize-table.ts';
import type { ContainerName, SolveTools } from './quantize-types.ts';
import type { Session } from './session.ts';

interface QuantizeOptions extends RecipeOptions {
  format?: string[];
  to?: string[];
  ggufType?: string;
  out: string;
  name?: string;
  verify: boolean;
  eval: boolean;
  failIf?: string[];
  device: string;
  text?: string;
  tokens: number;
  memory?: number;
  profile?: boolean;
  printRecipe?: boolean;
}

/** Prose and documentation for calibration, from another part of the texts than the sample for measuring. */
const sampleCalibration = fileURLToPath(packageFile('models/calibration.txt.xz'));

const definition: CommandDefinition = {
  name: 'quantize',
  summary: 'quantize a checkpoint and write GGUF and safetensors that other programs load',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id']],
  options: [
    new Option('-f, --format <specs>', 'formats, separated by commas; see `subbyte formats`').argParser(parseList),
    new Option('--to <containers>', 'gguf, safetensors, or none (default: every one that holds the format)').argParser(
      parseTo,
    ),
    new Option('--gguf-type <type>', "type in the GGUF file instead of the format's own: q4_k, q4_k_m, q8_0, ..."),
    ...recipeOptions(),
    new Option('-o, --out <folder>', 'where to write').default('out'),
    new Option('--name <text>', 'name of the model in file names and metadata (default: from the source)'),
    new Option(
      '--memory <size>',
      'memory for the activations of calibration, as in 4GB (default: half of what is free)',
    ).argParser(parseBytes),
    new Option('--profile', 'print the share of time of each phase'),
    new Option('--print-recipe', 'print the effective recipe, every default filled in, and do nothing else'),
    new Option('--no-verify', 'do not open and check what was written'),
    new Option('--no-eval', 'do not measure perplexity and divergence'),
    new Option('--fail-if <condition>', "exit with 4 when it holds: 'ppl>+5%', 'kl>0.05'").argParser(parseRepeated),
    ...textOptions(4096).filter((option) => option.long !== '--window'),
    new Option('--window <n>', 'tokens of a window, of calibration and measurement (default: 512)').argParser(
      parseCount,
    ),
    deviceOption(),
  ],
  examples: [
    'subbyte quantize models/qwen3-6m --format mxfp4 --to gguf,safetensors --out out',
    "subbyte quantize models/qwen3-6m --format int4-g64-asym --tensor-type 'down_proj=int8-channel'",
    'subbyte quantize models/qwen3-6m --method gptq --format int4-g64-asym --calib train.txt --samples 32',
    "subbyte quantize Qwen/Qwen3-0.6B --format q4_k_m --method imatrix --fail-if 'ppl>+5%' --json",
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as QuantizeOptions;
    const gates = (options.failIf ?? []).map(parseGate);
    checkName(options.name);
    const recipe = await recipeOf(options, session.options.givenSeed);
    if (options.printRecipe) {
      await showRecipe(session, options.format?.[0] ? mergeRecipe(recipe, { format: options.format[0] }) : recipe);
      return;
    }
    const formats = options.format ?? (recipe.format === undefined ? [] : [recipe.format]);
    if (formats.length === 0)
      throw userError({
        code: 'no-format',
        op: 'quantize',
        problem: 'no format was given',
        fix: 'add --format mxfp4, or an entry "format" to the recipe; `subbyte formats` lists them',
      });
    const model = await openModel(session, reference);
    const quantizer = await openQuantizer({ threads: session.options.threads });
    const measure = options.eval || gates.length > 0;
    const backend = measure || needsText(recipe) ? await openBackend(session, options.device) : undefined;
    let solving: SolveTools | undefined;
    try {
      const { weights, notes } = await transformModel(model.weights, recipe);
      for (const note of [...recipeNotes(recipe), ...notes]) session.warn(`  note         ${note}`);
      const window = options.window ?? 512;
      const quality = measure ? await loadTokens(session, model, { ...options, window }) : undefined;
      const calibration = needsText(recipe) ? await loadWindows(session, model, recipe) : undefined;
      solving = await openSolving(session, recipe, weights);
      const { entries, omitted } = await runQuantize(
        {
          session,
          model,
          weights,
          quantizer,
          reference: referenceQuantizer(),
          backend: measure ? backend : undefined,
          solving: solving && { ...solving, backend },
        },
        {
          targets: [...new Set(formats)].map((format) => ({
            format,
            containers: options.to as ContainerName[] | undefined,
          })),
          ggufType: options.ggufType,
          recipe,
          calibration,
          memory: options.memory ?? freemem() / 2,
          profile: options.profile ?? false,
          out: options.out,
          name: options.name ?? modelName(reference),
          verify: options.verify,
          quality: quality && { tokens: quality.tokens, window },
        },
      );
      printQuantizeTable(session, entries);
      for (const entry of entries) printMethodReport(session, entry, options.profile ?? false);
      session.result({
        model: reference,
        recipe,
        calibration: calibration && { ...calibration, ids: undefined },
        outputs: entries,
        omitted,
        protocol: quality && {
          text: quality.file,
          tokens: quality.tokens.length,
          window,
          precision: `weights as stored in the file, activations ${recipe.activations ? 'as the recipe says' : 'f32'}, ${backend?.description}`,
        },
      });
      for (const e of entries)
        enforceGates(gates, { ppl: e.perplexity, kl: e.kl, top1: e.top1 }, { ppl: e.originalPerplexity });
    } finally {
      quantizer.dispose();
      solving?.solver.dispose();
      backend?.dispose();
    }
  },
};

async function showRecipe(session: Session, recipe: Recipe): Promise<void> {
  const { printRecipe } = await import('../quantize/recipe/print.ts');
  session.print(printRecipe(recipe, 'yaml').trimEnd());
  session.result(recipe);
}

/** The solver's threads and the importances of a file, for recipes that do more than round to nearest. */
async function openSolving(session: Session, recipe: Recipe, weights: ModelWeights): Promise<SolveTools | undefined> {
  const file = findStep(recipe, 'imatrix')?.file;
  const plain = !needsText(recipe) && file === undefined && !findStep(recipe, 'hqq');
  if (plain) return undefined;
  const { createSolver } = await import('../backends/wasm/solver.ts');
  let importance: SolveTools['importance'];
  if (file !== undefined) {
    const { readImatrix } = await import('../io/imatrix-file.ts');
    const { importanceFromFile } = await import('../quantize/methods/importance.ts');
    importance = importanceFromFile(await readImatrix(file), weights, file);
  }
  return { solver: await createSolver({ threads: session.options.threads }), importance, backend: undefined };
}

async function loadWindows(session: Session, model: OpenedModel, recipe: Recipe): Promise<CalibrationWindows> {
  const { loadCalibration } = await import('../quantize/calibration/windows.ts');
  const { loadChatTemplate } = await import('../io/chat-template.ts');
  const { text, field, samples, window, sampling } = recipe.calibration;
  const source = text ?? sampleCalibration;
  if (text === undefined)
    session.note('  note         calibrated on the sample that ships; --calib with text like your own is better');
  else if (path.resolve(text) === path.resolve(sampleText))
    session.warn('  note         this is the text that quality is measured on: figures will look better than they are');
  const windows = await loadCalibration(
    { source, field, samples, window, sampling, seed: recipe.seed },
    await loadTokenizer(model.checkpoint),
    {
      template: await loadChatTemplate(model.checkpoint),
      vocabSize: model.weights.config.vocabSize,
      signal: session.signal,
    },
  );
  for (const note of windows.notes) session.warn(`  note         ${note}`);
  // the path of the sample is this machine's; files carry what they were calibrated on to others
  return text === undefined ? { ...windows, source: 'the sample that ships with subbyte' } : windows;
}

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
  const wrong = list.find((name) => name !== 'gguf' && name !== 'safetensors' && name !== 'none');
  if (wrong === undefined) return list;
  throw userError({
    code: 'unknown-container',
    op: 'quantize',
    problem: 'there is no such container',
    got: JSON.stringify(wrong),
    expected: 'gguf, safetensors or both, or none',
  });
}

/** `models/qwen3-6m/` → `qwen3-6m`, `hf:org/name@rev` → `name`, `x.gguf` → `x`. */
export function modelName(reference: string): string {
  const base = path.basename(reference.replace(/@[^/]*$/, '').replace(/[/\\]+$/, ''));
  return base.replace(/\.(gguf|safetensors)$/i, '') || 'model';
}

export default definition;
