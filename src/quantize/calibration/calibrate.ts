// Goes through a model block by block with calibration windows, and lets a method round each group of layers on what
// these layers really read.
//
// Method: the windows' activations stand before block 0 (embeddings). For every block: an optional first pass over the
// unrounded block, from which transformations take their statistics; then the stages (stages.ts), each run over all
// windows, its statistics handed to the method, and the rounded layers put in place before the next stage runs. So a
// layer sees the outputs of everything that was rounded before it, in this block too ("true sequential"), and every
// product is computed once. Finished blocks are on disk (work-folder.ts); a killed run continues after the last one.
// Memory: one block, its activations (up to a budget, then on disk), its statistics.
// It does not do: choosing formats, rounding, writing models.

import { takingTurns } from '../../evaluate/yield.ts';
import type { Format } from '../../formats/format.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { reshape } from '../../graph/ops/layout.ts';
import { trace } from '../../graph/trace.ts';
import { i32 } from '../../graph/value-type.ts';
import { type LoadedBlock, loadBlock } from '../../models/loaded-block.ts';
import { blockSites, type Site, type Stage, type StageValue, stages } from '../../models/stages.ts';
import type { ModelWeights } from '../../models/weights.ts';
import { type AnyTensor, tensorF32 } from '../../tensor/tensor.ts';
import { inFloatType } from '../solved-model.ts';
import { type ActivationStore, openActivations } from './activations.ts';
import type { SiteNeeds, SiteRecord } from './site-observer.ts';
import { type PassContext, runStage, type StageStores, type Stream } from './stage-pass.ts';
import { type InputReport, type RangeOf, runFixing, type StaticInputs, staticInputs } from './static-inputs.ts';
import type { WorkFolder } from './work-folder.ts';

/** One layer to round, and what is known of its input. */
export interface LayerTask {
  /** Name of the weight tensor. */
  readonly name: string;
  readonly weight: AnyTensor;
  /** Its values with narrower ranges, [N, K], where clipping found some: what scales are to be fitted to. */
  readonly clipped?: Float32Array;
  readonly format: Format;
  readonly record: SiteRecord;
}

/** What was done to one layer, for reports; JSON data. */
export interface LayerReport {
  readonly name: string;
  readonly format: string;
  /** Rows of calibration that reached the layer. */
  readonly tokens: number;
  /** ‖(W − Ŵ)X‖² / ‖WX‖², where it was measured. */
  readonly relativeError?: number;
  /** The same for plain rounding. */
  readonly plainError?: number;
  readonly notes: readonly string[];
}

export interface LayerResult {
  readonly tensor: AnyTensor;
  readonly report: LayerReport;
  /** Mean squares of the layer's inputs, [K], to be kept beside the tensor (`statisticsName`). */
  readonly meanSquares?: Float32Array;
}

/** Under which name the mean squares of a weight's inputs lie in the work folder. */
export const statisticsName = (weight: string): string => `statistics:${weight}`;

/** A pass over the unrounded block for transformations that need its statistics. */
export interface BlockPreparation {
  needs(site: Site): SiteNeeds | undefined;
  /** How many passes over all `tokens` a search runs besides, for the plan. */
  searchedForwards?(tokens: number): number;
  /** Tensors of the block that change; the function that the block computes stays the same. */
  apply(block: PreparedBlock): Promise<ReadonlyMap<string, AnyTensor>>;
}

export interface PreparedBlock {
  readonly layer: number;
  readonly block: LoadedBlock;
  readonly tensors: ReadonlyMap<string, AnyTensor>;
  readonly records: ReadonlyMap<string, readonly SiteRecord[]>;
  /** Activations of the unrounded block: `hidden`, `heads`, `middle`, `gated`, `shared`. */
  readonly stores: ReadonlyMap<StageValue, ActivationStore>;
  readonly context: PassContext;
  note(text: string): void;
}

export interface CalibrationMethod {
  readonly preparation?: BlockPreparation;
  needs(site: Site): SiteNeeds | undefined;
  /** Rounds the layers of a site, in their order; one result for each. */
  round(site: Site, tasks: readonly LayerTask[]): Promise<LayerResult[]>;
  /** Later layers see the rounded ones (default of all methods that round), or the model as it was. */
  readonly propagate: 'rounded' | 'float';
  /** The unrounded model's activations run along, for needs with `cross`. */
  readonly floatStream: boolean;
}

export interface Calibration {
  readonly weights: ModelWeights;
  /** Format of each weight to round; the others stay. */
  readonly formats: ReadonlyMap<string, Format>;
  readonly method: CalibrationMethod;
  /** Rules of static ranges of the layers' inputs; absent: there are none. */
  readonly rangeOf?: RangeOf;
  /** Token ids [windows · T], windows one after the other. */
  readonly ids: Int32Array;
  readonly context: Omit<PassContext, 'step'>;
  readonly work: WorkFolder;
  readonly signal?: AbortSignal;
  /** Tokens that one more stage has seen, and where the work is. */
  onProgress?(tokens: number, place: string): void;
}

export interface BlockReport {
  readonly layer: number;
  readonly layers: readonly LayerReport[];
  /** Static ranges of the inputs; absent: there are none. */
  readonly inputs?: readonly InputReport[];
  readonly notes: readonly string[];
}

/**
 * Calibrates all blocks that are not finished; the results lie in the work folder.
 *
 * Throws what reading and rounding throw, a model error naming the first layer whose input is not finite, and the
 * signal's reason when it aborts; finished blocks stay.
 */
export async function calibrate(calibration: Calibration): Promise<BlockReport[]> {
  try {
    return await runBlocks(calibration);
  } finally {
    for (const store of calibration.context.budget.open) store.dispose();
  }
}

async function runBlocks(calibration: Calibration): Promise<BlockReport[]> {
  const { weights, work, method } = calibration;
  const context = withTurns(calibration);
  const { layers } = weights.config;
  const reports: BlockReport[] = [];
  for (let layer = 0; layer < Math.min(work.finished, layers); layer++)
    reports.push((await work.report(layer)) as BlockReport);
  for (const { inputs } of reports) context.inputs.restore(inputs ?? []);
  if (work.finished >= layers) return reports;
  let hidden = await startHidden(calibration, context);
  let float = method.floatStream ? await forward(calibration, context, work.finished) : undefined;
  for (let layer = work.finished; layer < layers; layer++) {
    const last = layer === layers - 1;
    const block = await context.profile.time('load', () => loadBlock(weights, layer, context.backend));
    const unrounded =
      float && ({ block: await loadBlock(weights, layer, context.backend), stores: oneStore(float) } satisfies Stream);
    try {
      const notes: string[] = [];
      const changed = await prepare(calibration, context, layer, block, hidden, notes);
      await unrounded?.block.replace(changed);
      const stores: StageStores = oneStore(hidden);
      const results = new Map<string, AnyTensor>(changed);
      const reported: LayerReport[] = [];
      const inputs: InputReport[] = [];
      for (const stage of last ? stages.slice(0, -1) : stages) {
        const place = `block ${layer + 1}/${layers} ${stage}`;
        const records = await runFixing(
          { ...context, step: () => context.advance(place) },
          {
            block,
            stores,
            layer,
            stage,
            inPlace: true,
            needs: (site) => (tasksOf(calibration, site, block).length > 0 ? method.needs(site) : undefined),
            float: unrounded,
          },
          context.inputs,
          { inputs, notes },
        );
        release(stage, stores);
        if (unrounded) release(stage, unrounded.stores);
        for (const site of blockSites(weights.config, layer).filter((s) => s.stage === stage)) {
          const tasks = tasksOf(calibration, site, block, records.get(site.name));
          if (tasks.length === 0) continue;
          const rounded = await method.round(site, tasks);
          const tensors = new Map(rounded.map(({ tensor }, i) => [tasks[i].name, tensor]));
          for (const [name, tensor] of tensors) results.set(name, tensor);
          for (const [i, { meanSquares }] of rounded.entries())
            if (meanSquares) results.set(statisticsName(tasks[i].name), tensorF32([meanSquares.length], meanSquares));
          reported.push(...rounded.map(({ report }) => report));
          if (method.propagate === 'rounded') await block.replace(tensors);
        }
      }
      hidden = last ? hidden : (stores.get('next') as ActivationStore);
      float = last ? float : unrounded?.stores.get('next');
      const report: BlockReport = { layer, layers: reported, ...(inputs.length > 0 && { inputs }), notes };
      await context.profile.time('write', () =>
        work.write(layer, { tensors: results, report }, last ? undefined : hidden),
      );
      reports.push(report);
    } finally {
      block.dispose();
      unrounded?.block.dispose();
    }
  }
  return reports;
}

const oneStore = (hidden: ActivationStore): StageStores => new Map([['hidden', hidden]]);

/** Stages that read a value last. */
const lastReaders: Partial<Record<Stage, readonly StageValue[]>> = {
  gateUp: ['hidden', 'heads'],
  end: ['middle', 'gated', 'shared'],
};

/** Frees what no later stage reads; a value that was replaced in place is no longer there. */
function release(stage: Stage, stores: StageStores): void {
  for (const name of lastReaders[stage] ?? []) {
    stores.get(name)?.dispose();
    stores.delete(name);
  }
}

/** The layers of a site that have a format, with their weights as they are now. */
function tasksOf(
  { formats }: Calibration,
  site: Site,
  block: LoadedBlock,
  records: readonly SiteRecord[] = [],
): LayerTask[] {
  const perExpert = site.layers.length / Math.max(site.experts, 1);
  return site.layers.flatMap((layer, i) => {
    const name = `${layer}.weight`;
    const format = formats.get(name);
    if (!format) return [];
    const record = records[Math.floor(i / perExpert)] ?? { tokens: 0, features: site.features };
    return [{ name, weight: block.tensors.get(name) as AnyTensor, format, record }];
  });
}

/** The first pass: statistics of the unrounded block, and the tensors that change. */
async function prepare(
  calibration: Calibration,
  context: TurningContext,
  layer: number,
  block: LoadedBlock,
  hidden: ActivationStore,
  notes: string[],
): Promise<ReadonlyMap<string, AnyTensor>> {
  const { preparation } = calibration.method;
  if (!preparation) return new Map();
  const { config } = calibration.weights;
  const stores: StageStores = oneStore(hidden);
  const records = new Map<string, SiteRecord[]>();
  try {
    for (const stage of stages.slice(0, -1)) {
      const step = () => context.advance(`block ${layer + 1}/${config.layers} statistics ${stage}`);
      const needs = (site: Site) =>
        tasksOf(calibration, site, block).length > 0 ? preparation.needs(site) : undefined;
      const pass = { block, stores, layer, stage, inPlace: false, needs, activation: () => undefined };
      const found = await runStage({ ...context, step }, pass);
      for (const [name, record] of found) records.set(name, record);
    }
    const prepared = await context.profile.time('transform', () =>
      preparation.apply({
        layer,
        block,
        tensors: block.tensors,
        records,
        stores,
        context,
        note: (text) => void notes.push(text),
      }),
    );
    const changed = new Map([...prepared].map(([name, tensor]) => [name, asKept(calibration, name, tensor)]));
    await block.replace(changed);
    return changed;
  } finally {
    for (const [name, store] of stores) if (name !== 'hidden') store.dispose();
  }
}

/** What is not rounded goes into the file in the model's float type, so the layers behind it see that. */
function asKept({ weights, formats }: Calibration, name: string, tensor: AnyTensor): AnyTensor {
  const format = weights.format(name);
  return formats.has(name) || format.kind !== 'float' ? tensor : inFloatType(tensor, format);
}

interface TurningContext extends PassContext {
  readonly inputs: StaticInputs;
  advance(place: string): Promise<void>;
}

function withTurns({ context, rangeOf, signal, onProgress }: Calibration): TurningContext {
  const turn = takingTurns(signal);
  const advance = async (place: string) => {
    await turn();
    onProgress?.(context.batch * context.tokens, place);
  };
  const inputs = staticInputs(context.config, rangeOf ?? (() => undefined));
  return { ...context, inputs, advance, step: () => advance('') };
}

/** The input of the first block that is not finished. */
async function startHidden(calibration: Calibration, context: TurningContext): Promise<ActivationStore> {
  const { work } = calibration;
  if (work.finished > 0) {
    const store = openHidden(context);
    if (await work.readHidden(store)) return store;
    store.dispose();
  }
  return forward(calibration, context, work.finished, true);
}

const openHidden = ({ config, batch, tokens, chunks, budget, folder }: PassContext) =>
  openActivations(chunks, batch * tokens * config.hiddenSize, budget, folder);

/** Embeddings and the first `count` blocks, unrounded or, with `rounded`, as they were left. */
async function forward(
  { weights, ids, work }: Calibration,
  context: TurningContext,
  count: number,
  rounded = false,
): Promise<ActivationStore> {
  let hidden = await embed(weights, ids, context);
  const index = rounded ? await work.index() : new Map<string, number>();
  const current: ModelWeights = {
    ...weights,
    load: async (name) => {
      const layer = index.get(name);
      return layer === undefined ? weights.load(name) : work.load(layer, name);
    },
  };
  for (let layer = 0; layer < count; layer++) {
    const block = await loadBlock(current, layer, context.backend);
    const stores = oneStore(hidden);
    const { activation } = context.inputs;
    try {
      for (const stage of stages) {
        const step = () => context.advance(`block ${layer + 1} again ${stage}`);
        await runStage({ ...context, step }, { block, stores, layer, stage, inPlace: true, activation });
        release(stage, stores);
      }
      hidden = stores.get('next') as ActivationStore;
    } finally {
      block.dispose();
    }
  }
  return hidden;
}

async function embed(weights: ModelWeights, ids: Int32Array, context: TurningContext): Promise<ActivationStore> {
  const { backend, batch, tokens, chunks, config } = context;
  const name = 'model.embed_tokens.weight';
  const table = await backend.upload(await weights.load(name));
  const rows = batch * tokens;
  if (ids.length !== rows * chunks) throw new Error(`calibrate: ${ids.length} ids for ${chunks} chunks of ${rows}`);
  const store = openHidden(context);
  try {
    const graph = trace((g) => {
      const h = embedding(g.param(name, table.type), g.input('ids', i32([rows])));
      g.output('hidden', reshape(h, [rows, config.hiddenSize]));
    });
    const executable = await backend.compile(graph, { params: new Map([[name, table]]) });
    try {
      for (let chunk = 0; chunk < chunks; chunk++) {
        executable.write('ids', ids.subarray(chunk * rows, (chunk + 1) * rows));
        await executable.run();
        await store.write(chunk, (to) => executable.read('hidden', to));
        await context.step();
      }
    } finally {
      executable.dispose();
    }
    return store;
  } finally {
    table.dispose();
  }
}
